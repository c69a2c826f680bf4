//! Hosts made for real. Needs root; everything is gone afterwards, also when a test fails.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lab;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use host::{CommandSpec, Error, FileSpec, Host, HostSpec, MountSpec, Restart, Uplink};
use lab::{Lab, eventually};

fn shell(name: &str, script: &str) -> CommandSpec {
    CommandSpec {
        name: name.to_owned(),
        argv: ["/bin/sh", "-euc", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
        restart: Restart::Never,
        sockets: Vec::new(),
    }
}

#[test]
fn a_host_has_namespaces_files_and_a_name_of_its_own() {
    let lab = Lab::new("own");
    let mut spec = lab.spec("alone");
    spec.mounts = vec![
        MountSpec::Tmpfs { target: "/run".into(), mode: 0o755 },
        MountSpec::Own { target: "/var/lib/of-a-host-only".into() },
    ];
    spec.files = vec![FileSpec { path: "/etc/of-a-host-only".into(), content: "text".to_owned(), mode: 0o644 }];
    spec.settings = vec![("net/ipv4/ip_forward".to_owned(), "1".to_owned())];
    spec.commands = vec![shell(
        "look",
        "hostname; echo $PPID; cat /etc/of-a-host-only; echo; ls -A /run; ls /sys/class/net; \
         cat /proc/sys/net/ipv4/ip_forward; cat /proc/1/cgroup | cut -d: -f3 | grep -v -e '^/$' -e '^/init$' | wc -l; \
         touch /usr/of-a-host-only /var/lib/of-a-host-only/file; echo done",
    )];
    let host = lab.launcher().start(&spec, &[]).unwrap();
    let text = eventually(|| lab::read(&host.log("look")).filter(|t| t.ends_with("done\n")));
    assert_eq!(text, "alone\n1\ntext\nlo\n1\n0\ndone\n");
    assert!(spec.directory.join("own/var/lib/of-a-host-only/file").exists());
    for untouched in ["/etc/of-a-host-only", "/usr/of-a-host-only", "/var/lib/of-a-host-only"] {
        assert!(!Path::new(untouched).exists(), "{untouched} on the machine");
    }
}

#[test]
fn own_files_survive_a_kill_and_nothing_survives_removal() {
    let lab = Lab::new("kill");
    let mut spec = lab.spec("a");
    spec.mounts = vec![MountSpec::Own { target: "/srv".into() }];
    spec.commands = vec![shell("count", "echo x >> /srv/starts; wc -l < /srv/starts; sleep 1000 & sleep 1000")];
    let first = lab.launcher().start(&spec, &[]).unwrap();
    eventually(|| lab::read(&first.log("count")).filter(|t| t == "1\n"));
    assert!(matches!(lab.launcher().start(&spec, &[]), Err(Error::Running { .. })));
    let found = Host::find(&spec.directory).unwrap().expect("it runs");
    assert_eq!((found.pid(), found.name()), (first.pid(), "a"));

    found.kill().unwrap();
    assert!(!first.is_running());
    assert!(Host::find(&spec.directory).unwrap().is_none());
    let second = lab.launcher().start(&spec, &[]).unwrap();
    eventually(|| lab::read(&second.log("count")).filter(|t| t == "1\n2\n"));

    let cgroups = lab::read(&spec.directory.join("cgroups")).unwrap();
    assert!(cgroups.lines().any(|c| Path::new(c).exists()));
    Host::remove(&spec.directory, 1).unwrap();
    assert!(!spec.directory.exists());
    for cgroup in cgroups.lines() {
        assert!(!Path::new(cgroup).exists(), "{cgroup}");
        assert!(!Path::new(cgroup).parent().unwrap().exists(), "parent of {cgroup}");
    }
    Host::remove(&spec.directory, 1).expect("a second removal is fine");
}

#[test]
fn hosts_meet_on_a_wire_and_reach_nothing_else() {
    let lab = Lab::new("wire");
    let wire = lab.wire("172.31.0.1/24", Uplink::None);
    let gateway = "172.31.0.1".parse().unwrap();
    let mut one = lab.spec("one");
    one.commands = vec![shell("serve", "sleep 1000")];
    let mut two = lab.spec("two");
    two.commands = vec![shell(
        "probe",
        "until busybox ping -c1 -W1 172.31.0.2; do :; done; busybox ping -c1 -W2 10.96.0.1 || true; \
         busybox ip route get 10.96.0.1; echo done",
    )];
    let launcher = lab.launcher();
    let one = wire.start_host(&launcher, &one, &[], "172.31.0.2/24".parse().unwrap(), gateway).unwrap();
    let mut watch = two.clone();
    let two = wire.start_host(&launcher, &two, &[], "172.31.0.3/24".parse().unwrap(), gateway).unwrap();
    let text = eventually(|| lab::read(&two.log("probe")).filter(|t| t.ends_with("done\n")));
    assert!(text.contains("bytes from 172.31.0.2"), "{text}");
    assert!(!text.contains("bytes from 10.96.0.1"), "{text}");
    assert!(text.contains("10.96.0.1 via 172.31.0.1 dev eth0"), "routable, so that rules can catch it: {text}");

    wire.set_connected("one", false).unwrap();
    two.kill().unwrap();
    watch.commands = vec![shell("probe2", "busybox ping -c1 -W1 172.31.0.2 || echo cut; echo done")];
    let two = wire.start_host(&launcher, &watch, &[], "172.31.0.3/24".parse().unwrap(), gateway).unwrap();
    let text = eventually(|| lab::read(&two.log("probe2")).filter(|t| t.ends_with("done\n")));
    assert!(text.contains("cut"), "{text}");
    assert!(one.is_running());
}

/// The machine is itself a host here, with a service on an address of its own: no packet leaves the test.
#[test]
fn an_uplink_reaches_what_the_machine_reaches_and_ends_with_the_wire() {
    assert!(host::uplink_available(), "install slirp4netns or passt to run this test");
    let lab = Lab::new("uplink");
    let script = format!(
        "ip link add card0 type bridge; ip addr add 192.0.2.1/24 dev card0; ip link set dev card0 up; ip route add default via 192.0.2.9; \
         busybox httpd -p 192.0.2.1:80 -h /srv; {} {} --exact inner_uplink --ignored --nocapture",
        format_args!("HOST_LAB={}", lab.path().join("inner").display()),
        std::env::current_exe().unwrap().display(),
    );
    let mut machine = lab.spec("machine");
    machine.mounts = vec![
        MountSpec::Own { target: "/srv".into() },
        MountSpec::Own { target: lab.path().join("inner") },
        MountSpec::Tmpfs { target: "/run".into(), mode: 0o755 },
    ];
    machine.files = vec![FileSpec { path: "/srv/index.html".into(), content: "outside".to_owned(), mode: 0o644 }];
    machine.commands = vec![shell("inner", &script)];
    let machine = lab.launcher().start(&machine, &[]).unwrap();
    let text = eventually(|| lab::read(&machine.log("inner")).filter(|t| t.contains("test result")));
    assert!(text.contains("1 passed"), "{text}");
}

/// What the test above runs inside of its machine.
#[test]
#[ignore = "runs inside of another test's host"]
fn inner_uplink() {
    let lab = Lab::within(std::env::var_os("HOST_LAB").expect("set by the outer test").as_ref(), "inner");
    let wire = lab.wire("172.31.0.1/24", Uplink::Auto);
    let mut one = lab.spec("one");
    one.commands = vec![shell("probe", "curl -s -m 5 http://192.0.2.1/; echo; echo done")];
    let (address, gateway) = ("172.31.0.2/24".parse().unwrap(), "172.31.0.1".parse().unwrap());
    let one = wire.start_host(&lab.launcher(), &one, &[], address, gateway).unwrap();
    let text = eventually(|| lab::read(&one.log("probe")).filter(|t| t.ends_with("done\n")));
    assert_eq!(text, "outside\ndone\n");
    wire.host().kill().unwrap();
    eventually(|| (!lab::is_running("slirp4netns")).then_some(()));
}

#[test]
fn a_socket_opened_outside_is_served_inside_across_restarts() {
    let lab = Lab::new("socket");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut spec = lab.spec("server");
    spec.sockets = vec!["unused".to_owned(), "web".to_owned()];
    // busybox nc accepts no handed-in socket: the shell shows the descriptor, perl serves it.
    let mut serve = shell(
        "serve",
        "echo $LISTEN_FDS $LISTEN_FDNAMES; exec perl -MIO::Socket::INET -e '
           my $l = IO::Socket::INET->new_from_fd(3, \"+<\") or die; my $c = $l->accept;
           print $c \"from \", `hostname`; close $c; exit 1'",
    );
    serve.sockets = vec!["web".to_owned()];
    serve.restart = Restart::OnFailure;
    spec.commands = vec![serve];
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = lab.launcher().start(&spec, &[unused.as_fd(), listener.as_fd()]).unwrap();
    drop(listener);
    for round in 0..3 {
        let mut text = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "from server\n", "round {round}");
    }
    assert!(lab::read(&host.log("serve")).unwrap().starts_with("1 web\n"));
    host.kill().unwrap();
    assert!(TcpStream::connect(address).is_err(), "the last holder is gone");
}

#[test]
fn a_request_to_end_reaches_the_commands() {
    let lab = Lab::new("term");
    let mut spec = lab.spec("polite");
    spec.commands = vec![shell("wait", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")];
    let host = lab.launcher().start(&spec, &[]).unwrap();
    eventually(|| lab::read(&host.log("wait")).filter(|t| t == "ready\n"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(host.pid()), nix::sys::signal::Signal::SIGTERM).unwrap();
    eventually(|| (!host.is_running()).then_some(()));
    assert_eq!(lab::read(&host.log("wait")).unwrap(), "ready\nbye\n");
}

#[test]
fn a_host_that_cannot_be_made_says_why_and_leaves_no_process() {
    let lab = Lab::new("broken");
    let mut spec = lab.spec("broken");
    spec.mounts = vec![MountSpec::Bind { source: "/nonexistent".into(), target: "/x".into(), read_only: false }];
    let error = lab.launcher().start(&spec, &[]).unwrap_err();
    assert!(error.to_string().contains("bind /nonexistent"), "{error}");
    assert!(Host::find(&spec.directory).unwrap().is_none());
}

#[test]
fn a_forwarder_copies_both_ways_and_resets_when_nobody_listens() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (front.local_addr().unwrap(), target.local_addr().unwrap());
    runtime.spawn(host::forward::forward(front, to));
    let echo = std::thread::spawn(move || {
        let (mut peer, _) = target.accept().unwrap();
        let mut text = [0; 4];
        peer.read_exact(&mut text).unwrap();
        peer.write_all(&text).unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"ping").unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!(back, "ping");
    echo.join().unwrap();
    let refused = TcpStream::connect(address).unwrap().read(&mut [0; 1]);
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_host_stands_within_a_second() {
    let lab = Lab::new("fast");
    let mut spec: HostSpec = lab.spec("fast");
    spec.commands = vec![shell("once", "echo up")];
    let started = Instant::now();
    let host = lab.launcher().start(&spec, &[]).unwrap();
    eventually(|| lab::read(&host.log("once")));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
