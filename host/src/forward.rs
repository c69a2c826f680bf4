//! Connections that arrive on a handed-in socket, copied to an address that only the host can reach.
//!
//! A listening socket belongs to the network namespace it was made in. So a socket that was opened on the machine's
//! loopback accepts there, while this process, inside the host, dials from where the host's addresses are.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections that are copied at once. More wait in the socket's backlog.
const CONNECTION_LIMIT: usize = 1024;

/// How long the other side may take to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A pause after a failed accept (out of descriptors), so that the failure is not repeated at full speed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Copies every connection of `listener` to `target`. Returns when the listener cannot be used at all.
pub async fn forward(listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTION_LIMIT {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(relay(client, target));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr) {
    let dialed = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(target)).await;
    match dialed {
        Ok(Ok(mut server)) => {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // Either side may break off; that is theirs to know.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        // Closing with data unread or linger 0 would be a reset, which is what a client of a closed port sees.
        Ok(Err(error)) => {
            tracing::debug!(%target, %error, "cannot connect");
            let _ = client.set_zero_linger();
        }
        Err(_) => {
            let _ = client.set_zero_linger();
        }
    }
}
