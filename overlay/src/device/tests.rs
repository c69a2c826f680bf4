//! The device in a network namespace of its own. Needs root, as everything that makes a device does.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}

/// Runs on a thread that has left the machine's network.
pub(crate) fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        ip("link add wire0 type bridge");
        ip("addr add 192.0.2.1/24 dev wire0");
        ip("link set wire0 up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(test());
    });
    thread.join().expect("the test passes");
}

fn peer(third: u8, mac: u8) -> Peer {
    let cidr = format!("10.244.{third}.0/24").parse().expect("a range");
    Peer { cidr, mac: [2, 0, 0, 0, 0, mac], public_ip: [192, 0, 2, third].into() }
}

#[test]
fn peers_come_go_and_survive_a_restart() {
    in_own_network(async || {
        let own = "10.244.1.0/24".parse().expect("a range");
        let device = Device::ensure([192, 0, 2, 1].into(), own).await.expect("a device");
        assert_eq!(device.mtu(), 1450);
        for action in [Action::Add(peer(2, 2)), Action::Add(peer(3, 3)), Action::Add(peer(3, 3))] {
            device.apply(&action).await.expect("a peer is added");
        }
        let shown = ip("route show dev flannel.1");
        assert!(shown.contains("10.244.2.0/24 via 10.244.2.0 "), "{shown}");

        let mac = device.mac();
        drop(device);
        let device = Device::ensure([192, 0, 2, 1].into(), own).await.expect("the device is taken over");
        assert_eq!(device.mac(), mac);
        assert_eq!(device.peers().await.expect("peers"), BTreeSet::from([peer(2, 2), peer(3, 3)]));

        for _ in 0..2 {
            device.apply(&Action::Remove(peer(2, 2))).await.expect("a peer is removed");
        }
        assert_eq!(device.peers().await.expect("peers"), BTreeSet::from([peer(3, 3)]));
        assert!(!ip("neigh show dev flannel.1").contains("10.244.2.0"));
        assert!(!ip("-family bridge neigh show dev flannel.1").contains("192.0.2.2 "));
    });
}

#[test]
fn an_address_that_no_interface_has_is_named() {
    in_own_network(async || {
        let own = "10.244.1.0/24".parse().expect("a range");
        let error = Device::ensure([192, 0, 2, 9].into(), own).await.err().expect("an error");
        assert!(error.to_string().contains("192.0.2.9"), "{error}");
    });
}
