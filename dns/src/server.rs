//! The sockets: UDP loops that answer in place, TCP connections, and what has to wait for upstream aside.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use daemon::Tasks;
use hickory_proto::rr::Name;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tracing::debug;

use crate::{
    Config, Error,
    forward::{Forwarder, read_framed, write_framed},
    index::Index,
    message::{Reply, Unfinished, failure, reply},
    zone::Zone,
};

/// Loops that read one UDP socket.
const UDP_LOOPS: usize = 2;
/// The largest question that is read; longer ones are cut and so malformed.
const MAX_QUESTION_BYTES: usize = 4_096;
/// TCP connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// A TCP connection without a question, or whose client does not take its answer, ends.
const IDLE: Duration = Duration::from_secs(10);
/// Before the next connection is taken when one could not be: there may be no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bound sockets and what answers on them.
pub(crate) struct Server {
    shared: Arc<Shared>,
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

struct Shared {
    domain: Name,
    index: Arc<Index>,
    turn: AtomicUsize,
}

impl Server {
    pub(crate) async fn bind(config: &Config, index: Arc<Index>) -> Result<Self, Error> {
        let address = config.listen;
        let failed = |protocol| move |source| Error::Listen { address, protocol, source };
        let udp = UdpSocket::bind(address).await.map_err(failed("udp"))?;
        // The same port for both when port 0 was asked for.
        let same = udp.local_addr().unwrap_or(address);
        let tcp = TcpListener::bind(same).await.map_err(failed("tcp"))?;
        let shared = Shared { domain: config.domain.clone(), index, turn: AtomicUsize::new(0) };
        Ok(Self { shared: Arc::new(shared), udp: Arc::new(udp), tcp })
    }

    /// Answers, as tasks, until the drain.
    pub(crate) fn serve(self, tasks: &Tasks, forwarder: Arc<Forwarder>) {
        for _ in 0..UDP_LOOPS {
            let (shared, socket, forwarder) = (self.shared.clone(), self.udp.clone(), forwarder.clone());
            let aside = tasks.clone();
            let drain = tasks.drain().clone();
            tasks.spawn("dns udp", async move {
                drain.run(udp_loop(shared, socket, forwarder, aside)).await;
            });
        }
        let (shared, aside, drain) = (self.shared, tasks.clone(), tasks.drain().clone());
        tasks.spawn("dns tcp", async move {
            drain.run(tcp_loop(shared, self.tcp, forwarder, aside)).await;
        });
    }
}

impl Shared {
    fn reply(&self, question: &[u8], over_udp: bool) -> Reply {
        let zone = Zone { domain: &self.domain, index: &self.index };
        reply(&zone, question, over_udp, self.turn.fetch_add(1, Ordering::Relaxed))
    }
}

async fn udp_loop(shared: Arc<Shared>, socket: Arc<UdpSocket>, forwarder: Arc<Forwarder>, aside: Tasks) {
    let mut buffer = vec![0; MAX_QUESTION_BYTES];
    loop {
        // An error here belongs to an earlier answer (an unreachable client); the socket stays good.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let question = &buffer[..length];
        match shared.reply(question, true) {
            Reply::Send(answer) => send(&socket, &answer, from).await,
            Reply::Ignore => {}
            waiting => {
                let (socket, forwarder, question) = (socket.clone(), forwarder.clone(), question.to_vec());
                aside.spawn("dns forward", async move {
                    if let Some(answer) = resolve(waiting, &forwarder, &question, true).await {
                        send(&socket, &answer, from).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        debug!(%error, %to, "an answer was not sent");
    }
}

async fn resolve(reply: Reply, forwarder: &Forwarder, question: &[u8], over_udp: bool) -> Option<Vec<u8>> {
    match reply {
        Reply::Send(answer) => Some(answer),
        Reply::Ignore => None,
        Reply::Forward => forwarder.ask(question, over_udp).await.or_else(|| failure(question)),
        Reply::Follow(unfinished) => follow(*unfinished, forwarder, over_udp).await,
    }
}

async fn follow(unfinished: Unfinished, forwarder: &Forwarder, over_udp: bool) -> Option<Vec<u8>> {
    let upstream = match unfinished.question() {
        Some(question) => forwarder.ask(&question, over_udp).await,
        None => None,
    };
    unfinished.finish(upstream.as_deref())
}

async fn tcp_loop(shared: Arc<Shared>, listener: TcpListener, forwarder: Arc<Forwarder>, aside: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (mut stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection was not taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (shared, forwarder, drain) = (shared.clone(), forwarder.clone(), aside.drain().clone());
        aside.spawn("dns connection", async move {
            let _place = place;
            drain.run(connection(&shared, &mut stream, &forwarder)).await;
        });
    }
}

/// Answers one question after the other, until the client ends or is idle.
async fn connection(shared: &Shared, stream: &mut TcpStream, forwarder: &Forwarder) -> io::Result<()> {
    while let Ok(question) = timeout(IDLE, read_framed(stream)).await {
        let question = question?;
        let reply = shared.reply(&question, false);
        if let Some(answer) = resolve(reply, forwarder, &question, false).await {
            timeout(IDLE, write_framed(stream, &answer)).await??;
        }
    }
    Ok(())
}
