//! A connection made inside another network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the port on the namespace's loopback.
///
/// # Errors
/// The message for the client.
pub(super) async fn connect(namespace: Option<PathBuf>, port: u16) -> Result<TcpStream, String> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: its namespace is changed, so it must never serve anything else.
    let started = std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        let _ = sender.send(dial(namespace.as_deref(), port));
    });
    started.map_err(|error| format!("cannot start a thread: {error}"))?;
    let stream = receiver.await.map_err(|_| "the dialing thread ended".to_owned())??;
    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(|error| error.to_string())
}

fn dial(namespace: Option<&Path>, port: u16) -> Result<std::net::TcpStream, String> {
    if let Some(path) = namespace {
        let file = std::fs::File::open(path).map_err(|error| format!("open {}: {error}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| format!("enter {}: {error}", path.display()))?;
    }
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut errors = Vec::new();
    for address in addresses {
        let target = SocketAddr::new(address, port);
        match std::net::TcpStream::connect_timeout(&target, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                errors.push(format!("dial tcp {target}: connect: connection refused"));
            }
            Err(error) => errors.push(format!("dial tcp {target}: {error}")),
        }
    }
    Err(format!("failed to connect to localhost:{port} inside namespace, IPv4: {} IPv6: {}", errors[0], errors[1]))
}
