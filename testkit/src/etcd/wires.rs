//! Wires between the members of a cluster, that can be cut and slowed. Each member is reached by its peers through a
//! listener here; clients reach it directly. What is sent into a cut wire arrives when it is mended, as in a network.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How often those who wait look again.
const PAUSE: Duration = Duration::from_millis(10);
const PIECE_BYTES: usize = 64 << 10;

/// How a member's wires are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    Whole,
    Slow(Duration),
    Cut,
}

/// See the module's documentation. Its threads end with it and the members.
#[derive(Debug)]
pub(super) struct Wires {
    state: Arc<State>,
    ports: Vec<u16>,
}

#[derive(Debug)]
struct State {
    members: Mutex<Vec<(Quality, Option<u32>)>>,
    closed: std::sync::atomic::AtomicBool,
}

impl Wires {
    /// Wires to members that listen for peers on these ports.
    pub(super) fn lay(peers: &[u16]) -> Result<Self> {
        let members = Mutex::new(vec![(Quality::Whole, None); peers.len()]);
        let state = Arc::new(State { members, closed: false.into() });
        let mut ports = Vec::new();
        for (member, peer) in peers.iter().copied().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            ports.push(listener.local_addr()?.port());
            let state = state.clone();
            thread::spawn(move || state.accept(&listener, member, peer));
        }
        Ok(Self { state, ports })
    }

    /// Where a member's peers find it.
    pub(super) fn port(&self, member: usize) -> u16 {
        self.ports[member]
    }

    /// Says which process a member is.
    pub(super) fn is(&self, member: usize, pid: u32) {
        self.state.lock()[member].1 = Some(pid);
    }

    pub(super) fn cut(&self, member: usize) {
        self.state.lock()[member].0 = Quality::Cut;
    }

    pub(super) fn slow(&self, member: usize, delay: Duration) {
        self.state.lock()[member].0 = Quality::Slow(delay);
    }

    pub(super) fn mend(&self, member: usize) {
        self.state.lock()[member].0 = Quality::Whole;
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.state.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        for port in &self.ports {
            // Wakes the listener, which then finds that it is closed.
            let _ = TcpStream::connect(("127.0.0.1", *port));
        }
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Quality, Option<u32>)>> {
        self.members.lock().expect("nobody panics with it")
    }

    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, member: usize, peer: u16) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.is_closed() {
                return;
            }
            // A member that is not there refuses, and so does its wire.
            let _ = self.clone().join(stream, member, peer);
        }
    }

    fn join(self: Arc<Self>, from: TcpStream, member: usize, peer: u16) -> Result<()> {
        let source = self.owner(from.peer_addr()?.port(), from.local_addr()?.port())?;
        let to = TcpStream::connect(("127.0.0.1", peer))?;
        for (reader, writer) in [(from.try_clone()?, to.try_clone()?), (to, from)] {
            let state = self.clone();
            thread::spawn(move || state.carry(reader, writer, [source, member]));
        }
        Ok(())
    }

    /// The member whose end of a connection this is.
    fn owner(&self, port: u16, listener: u16) -> Result<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let (local, remote) = (format!(":{port:04X}"), format!(":{listener:04X}"));
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut own = fields.filter(|f| f.len() > 9 && f[1].ends_with(&local) && f[2].ends_with(&remote));
        let link = format!("socket:[{}]", own.next().context("the connection has gone")?[9]);
        let holds = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&link)))
        };
        let found = self.lock().iter().position(|(_, pid)| pid.is_some_and(holds));
        found.context("no member has this connection")
    }

    fn carry(&self, mut reader: TcpStream, mut writer: TcpStream, ends: [usize; 2]) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = reader.read(&mut piece) {
            self.pass(ends);
            if self.is_closed() || writer.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
        let _ = reader.shutdown(Shutdown::Both);
    }

    /// Waits as long as what is sent between two members takes.
    fn pass(&self, ends: [usize; 2]) {
        loop {
            let qualities = ends.map(|end| self.lock()[end].0);
            if !qualities.contains(&Quality::Cut) || self.is_closed() {
                let delay = |quality| if let Quality::Slow(delay) = quality { delay } else { Duration::ZERO };
                return thread::sleep(qualities.map(delay).into_iter().sum());
            }
            thread::sleep(PAUSE);
        }
    }
}
