//! Starting a host from outside: one process is spawned, makes the namespaces and becomes the host.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;

use crate::{Error, Host, HostSpec, netns, sys};

/// How long a host may take to be made.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How to run [`crate::init::run`] as a process of its own.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: OsString,
    arguments: Vec<OsString>,
}

/// A host that stands, and waits for its network before it starts its commands. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) name: String,
    pub(crate) pid: Pid,
    channel: BufReader<UnixStream>,
    host: Host,
}

impl Launcher {
    /// The program and its arguments. It must call [`crate::init::run`] before it starts any thread.
    pub fn new(program: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program: program.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Starts a host without a link to anything. `sockets` go with the names in the specification.
    pub fn start(&self, spec: &HostSpec, sockets: &[BorrowedFd<'_>]) -> Result<Host, Error> {
        self.prepare(spec, sockets)?.go()
    }

    /// Makes the host up to the point where its network can be set up.
    pub(crate) fn prepare(&self, spec: &HostSpec, sockets: &[BorrowedFd<'_>]) -> Result<Starting, Error> {
        if let Some(host) = Host::find(&spec.directory)? {
            return Err(Error::Running { host: spec.name.clone(), pid: host.pid() });
        }
        check_sockets(spec, sockets)?;
        // What an earlier run left behind: a v2 cgroup that hands controllers on cannot be entered again.
        Host::release(&spec.directory, 0)
            .map_err(|errors| init_error(spec, &format!("its old cgroups stay: {errors}")))?;
        let mut channel = self.spawn(spec, sockets)?;
        send(channel.get_mut(), &spec.name, &serde_json::to_string(spec).expect("a specification is JSON"))?;
        let pid = match receive(&mut channel, &spec.name)?.strip_prefix("pid ").map(str::parse) {
            Some(Ok(pid)) => Pid::from_raw(pid),
            _ => return Err(init_error(spec, "it answered without a pid")),
        };
        let host = Host::adopt(&spec.directory, &spec.name, pid)?;
        let starting = Starting { name: spec.name.clone(), pid, channel, host };
        starting.wait_ready()
    }

    fn spawn(&self, spec: &HostSpec, sockets: &[BorrowedFd<'_>]) -> Result<BufReader<UnixStream>, Error> {
        let logs = spec.directory.join("log");
        fs::create_dir_all(&logs).map_err(Error::file("make", &logs))?;
        let path = logs.join("init.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(Error::file("open", &path))?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::file("make a channel to init for", &spec.directory))?;
        ours.set_read_timeout(Some(READY_DEADLINE)).map_err(Error::file("configure a channel for", &spec.directory))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log.try_clone().map_err(Error::file("open", &path))?)
            .stderr(log);
        let numbers: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        sys::hand_over(&mut command, &numbers);
        let program = std::path::Path::new(&self.program);
        let mut stage1 = command.spawn().map_err(Error::file("run", program))?;
        drop(command);
        // Stage 1 ends as soon as it has forked; whether it went well is said on the channel.
        std::thread::spawn(move || stage1.wait());
        Ok(BufReader::new(ours))
    }
}

impl Starting {
    fn wait_ready(mut self) -> Result<Self, Error> {
        match receive(&mut self.channel, &self.name)?.as_str() {
            "ready" => {}
            other => {
                return Err(Error::Init { host: self.name.clone(), message: format!("unexpected answer {other:?}") });
            }
        }
        netns::inside(self.pid, "bring up lo", |net| async move { net.up("lo").await })?;
        Ok(self)
    }

    /// Lets the commands start.
    pub(crate) fn go(mut self) -> Result<Host, Error> {
        send(self.channel.get_mut(), &self.name, "go")?;
        match receive(&mut self.channel, &self.name)?.as_str() {
            "running" => Ok(self.host),
            other => Err(Error::Init { host: self.name, message: format!("unexpected answer {other:?}") }),
        }
    }
}

fn check_sockets(spec: &HostSpec, sockets: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let wrong = |value: &str, reason| Error::Invalid { what: "socket", value: value.to_owned(), reason };
    if spec.sockets.len() != sockets.len() {
        return Err(wrong(&spec.sockets.join(","), "as many descriptors as names are needed"));
    }
    let unknown = |name: &&String| !spec.sockets.contains(name);
    match spec.commands.iter().flat_map(|c| &c.sockets).find(unknown) {
        Some(name) => Err(wrong(name, "no socket of that name is handed in")),
        None => Ok(()),
    }
}

fn init_error(spec: &HostSpec, message: &str) -> Error {
    Error::Init { host: spec.name.clone(), message: message.to_owned() }
}

fn send(channel: &mut UnixStream, host: &str, line: &str) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::Init { host: host.to_owned(), message: format!("its init is gone: {e}") };
    channel.write_all(line.as_bytes()).map_err(failed)?;
    channel.write_all(b"\n").map_err(failed)
}

/// One line from init. An error of init comes as a line too.
fn receive(channel: &mut BufReader<UnixStream>, host: &str) -> Result<String, Error> {
    let failed = |message: String| Error::Init { host: host.to_owned(), message };
    let mut line = String::new();
    match channel.read_line(&mut line) {
        Ok(0) => Err(failed("its init ended without a word; see log/init.log in its directory".to_owned())),
        Err(e) => Err(failed(format!("its init did not answer: {e}"))),
        Ok(_) => match line.trim_end().strip_prefix("error ") {
            Some(message) => Err(failed(message.to_owned())),
            None => Ok(line.trim_end().to_owned()),
        },
    }
}
