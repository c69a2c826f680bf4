//! PID 1's work: start the commands, start them again, bury the dead.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{CommandSpec, Error, HostSpec, Restart, sys};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A command that ran this long starts with the first delay again.
const HEALTHY: Duration = Duration::from_secs(10);
/// What commands get between the request to end and the end of the host.
const GRACE: Duration = Duration::from_secs(10);
/// A log file that is larger when its command starts is put aside as `<name>.log.1`.
const LOG_LIMIT: u64 = 16 << 20;

pub(super) struct Supervisor {
    children: Vec<Child>,
    signals: SignalFd,
    logs: File,
}

struct Child {
    spec: CommandSpec,
    sockets: Vec<RawFd>,
    /// Keeps the sockets open while the command does not run: connections wait for its next start.
    _held: Vec<OwnedFd>,
    state: State,
    delay: Duration,
}

enum State {
    Running { pid: Pid, since: Instant },
    Waiting { until: Instant },
    Ended,
}

impl Supervisor {
    pub(super) fn new(spec: &HostSpec, sockets: Vec<OwnedFd>, logs: File) -> Result<Self, Error> {
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            wanted.add(signal);
        }
        wanted.thread_block().map_err(Error::call("block signals"))?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Error::call("make a signal descriptor"))?;
        let named: HashMap<&String, &OwnedFd> = spec.sockets.iter().zip(&sockets).collect();
        let mut children = Vec::new();
        for command in &spec.commands {
            let mut held = Vec::new();
            for name in &command.sockets {
                let copy = named.get(name).map(|s| s.try_clone());
                held.extend(copy.transpose().map_err(Error::file("copy a socket for", command.argv[0].as_ref()))?);
            }
            children.push(Child {
                spec: command.clone(),
                sockets: held.iter().map(AsRawFd::as_raw_fd).collect(),
                _held: held,
                state: State::Waiting { until: Instant::now() },
                delay: FIRST_DELAY,
            });
        }
        Ok(Self { children, signals, logs })
    }

    /// Returns after a request to end.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            for child in &mut self.children {
                child.start_when_due(now, &self.logs);
            }
            self.wait(self.next_start(now))?;
            let end_requested = self.read_signals()?;
            self.bury();
            if end_requested {
                return self.end();
            }
        }
    }

    fn next_start(&self, now: Instant) -> Option<Duration> {
        let due = self.children.iter().filter_map(|child| match child.state {
            State::Waiting { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        });
        due.min()
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<(), Error> {
        // Rounded up, so that a start that is due in half a millisecond is not polled for.
        let milliseconds = timeout.map(|t| u16::try_from(t.as_millis() + 1).unwrap_or(u16::MAX));
        let timeout = milliseconds.map_or(PollTimeout::NONE, PollTimeout::from);
        let mut descriptors = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::call("wait for signals")(errno)),
        }
    }

    fn read_signals(&self) -> Result<bool, Error> {
        let mut end = false;
        while let Some(info) = self.signals.read_signal().map_err(Error::call("read signals"))? {
            end |= info.ssi_signo != Signal::SIGCHLD as u32;
        }
        Ok(end)
    }

    /// Everything that lost its parent in this host ends up here.
    fn bury(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, success) = match status {
                WaitStatus::Exited(pid, code) => (pid, code == 0),
                WaitStatus::Signaled(pid, ..) => (pid, false),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if let Some(child) = self.children.iter_mut().find(|c| c.is(pid)) {
                eprintln!("{} ended: {status:?}", child.spec.name);
                child.ended(success, Instant::now());
            }
        }
    }

    /// Asks the commands to end; what is left when this process ends is killed by the kernel.
    fn end(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + GRACE;
        for child in &mut self.children {
            match child.state {
                State::Running { pid, .. } => drop(kill(pid, Signal::SIGTERM)),
                _ => child.state = State::Ended,
            }
        }
        let running = |child: &Child| matches!(child.state, State::Running { .. });
        while self.children.iter().any(running) && Instant::now() < deadline {
            self.wait(Some(deadline.saturating_duration_since(Instant::now())))?;
            self.read_signals()?;
            self.bury();
        }
        Ok(())
    }
}

impl Child {
    fn is(&self, process: Pid) -> bool {
        matches!(self.state, State::Running { pid, .. } if pid == process)
    }

    fn start_when_due(&mut self, now: Instant, logs: &File) {
        let State::Waiting { until } = self.state else {
            return;
        };
        if until > now {
            return;
        }
        match self.start(logs) {
            Ok(pid) => self.state = State::Running { pid, since: now },
            Err(error) => {
                eprintln!("{}: {}", self.spec.name, error.chain());
                self.retry(now);
            }
        }
    }

    fn start(&self, logs: &File) -> Result<Pid, Error> {
        let log = open_log(logs, &self.spec.name)?;
        let program = PathBuf::from(&self.spec.argv[0]);
        let mut command = Command::new(&program);
        command
            .args(&self.spec.argv[1..])
            .env_clear()
            .envs(self.spec.env.iter().cloned())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(Error::file("open the log of", &program))?)
            .stderr(log);
        if !self.sockets.is_empty() {
            command.env("LISTEN_FDS", self.sockets.len().to_string());
            command.env("LISTEN_FDNAMES", self.spec.sockets.join(":"));
        }
        sys::unblock_signals(&mut command);
        sys::hand_over(&mut command, &self.sockets);
        let child = command.spawn().map_err(Error::file("run", &program))?;
        Ok(Pid::from_raw(i32::try_from(child.id()).expect("a pid fits")))
    }

    fn ended(&mut self, success: bool, now: Instant) {
        if let State::Running { since, .. } = self.state
            && now.duration_since(since) >= HEALTHY
        {
            self.delay = FIRST_DELAY;
        }
        match (self.spec.restart, success) {
            (Restart::Never, _) | (Restart::OnFailure, true) => self.state = State::Ended,
            _ => self.retry(now),
        }
    }

    fn retry(&mut self, now: Instant) {
        self.state = State::Waiting { until: now + self.delay };
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }
}

/// The log directory lies outside of the host's tree: it is reached through a descriptor that was opened before.
fn open_log(logs: &File, name: &str) -> Result<File, Error> {
    let directory = PathBuf::from(format!("/proc/self/fd/{}", logs.as_raw_fd()));
    let path = directory.join(format!("{name}.log"));
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT) {
        let aside = directory.join(format!("{name}.log.1"));
        fs::rename(&path, &aside).map_err(Error::file("put aside", &path))?;
    }
    let opened = fs::OpenOptions::new().create(true).append(true).open(&path);
    opened.map_err(Error::file("open", &path))
}
