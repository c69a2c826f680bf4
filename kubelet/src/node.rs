//! The node object: registered once, its status kept current, its lease renewed.

mod lease;
mod machine;
mod register;
mod runtime_state;
mod status;

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use machine::Machine;
pub(crate) use runtime_state::{Abilities, RuntimeState};

use crate::kubelet::Kubelet;

/// The release whose behaviour this is.
pub(crate) const VERSION: &str = "v1.37.1";

/// The address of the interface with the default route: no packet is sent to find out.
pub(crate) fn primary_address() -> IpAddr {
    let find = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    find().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

/// Starts the tasks around the node object.
pub(crate) fn start(kubelet: &Arc<Kubelet>) {
    let tasks = &kubelet.tasks;
    let shared = kubelet.clone();
    tasks.supervise("runtime state", move || runtime_state::run(shared.clone()));
    let shared = kubelet.clone();
    tasks.supervise("node lease", move || lease::run(shared.clone()));
    let shared = kubelet.clone();
    tasks.supervise("node status", move || status::run(shared.clone()));
}

/// Sleeps unless the drain starts. False when it did.
pub(crate) async fn pause(kubelet: &Kubelet, time: Duration) -> bool {
    kubelet.tasks.drain().run(tokio::time::sleep(time)).await.is_some()
}
