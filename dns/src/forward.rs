//! Questions that are not about the cluster, asked of the servers that the node uses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

/// Questions that wait for upstream at once; more are dropped.
const MAX_WAITING: usize = 1_000;
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_MESSAGE_BYTES: usize = 65_535;
const DNS_PORT: u16 = 53;

/// The `nameserver` lines of a resolver file. What is this server itself, which listens there, is left out: a question
/// would go round for ever.
pub(crate) fn upstreams(resolv_conf: &str, listen: SocketAddr) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    let servers = addresses.map(|ip| SocketAddr::new(ip, DNS_PORT));
    servers.filter(|server| !is_itself(*server, listen)).collect()
}

fn is_itself(server: SocketAddr, listen: SocketAddr) -> bool {
    let everywhere = listen.ip().is_unspecified() && server.ip().is_loopback();
    server.ip().is_unspecified() || (server.port() == listen.port() && (everywhere || server.ip() == listen.ip()))
}

/// Asks the servers in turn.
pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    /// The server that answered last is asked first.
    preferred: AtomicUsize,
    waiting: Semaphore,
}

impl Forwarder {
    pub(crate) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, preferred: AtomicUsize::new(0), waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Upstream's answer to a question, bytes for bytes. None when no server answers in time or too many wait.
    pub(crate) async fn ask(&self, question: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let _place = self.waiting.try_acquire().ok()?;
        let first = self.preferred.load(Ordering::Relaxed);
        for at in (0..self.upstreams.len()).map(|i| (first + i) % self.upstreams.len()) {
            let server = self.upstreams[at];
            let answer = if over_udp {
                timeout(PATIENCE, udp(server, question)).await
            } else {
                timeout(PATIENCE, tcp(server, question)).await
            };
            if let Ok(Ok(answer)) = answer {
                self.preferred.store(at, Ordering::Relaxed);
                return Some(answer);
            }
        }
        None
    }
}

/// A socket of its own for each question gives it a port that is hard to guess.
async fn udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 2 && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, question).await?;
    read_framed(&mut stream).await
}

/// Writes a message with its length in front.
pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}

/// Reads a message with its length in front.
pub(crate) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_files_name_servers() {
        let text = "# a comment\nsearch x y\nnameserver 192.0.2.1\nnameserver  2001:db8::1 # two\nnameserver 0.0.0.0\n";
        let found = upstreams(text, "[::]:53".parse().unwrap());
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }

    #[test]
    fn this_server_is_not_asked() {
        let text = "nameserver 127.0.0.53\nnameserver 192.0.2.1\n";
        for (listen, expected) in [
            ("[::]:53", vec!["192.0.2.1:53"]),
            ("0.0.0.0:53", vec!["192.0.2.1:53"]),
            ("192.0.2.1:53", vec!["127.0.0.53:53"]),
            ("[::]:1053", vec!["127.0.0.53:53", "192.0.2.1:53"]),
        ] {
            let found: Vec<String> = upstreams(text, listen.parse().unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{listen}");
        }
    }
}
