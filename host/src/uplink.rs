//! A way out for a wire: a user-mode network, so that the machine's own rules and routes stay as they are.
//!
//! The program runs on the machine and opens a card in the wire's namespace; the wire hides its hosts behind that card's
//! address. slirp4netns ends with the wire's first process, which holds the other end of a pipe; pasta is found again
//! by the file with its pid.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::{CommandSpec, Error, Host, Restart, sys};

/// Whether hosts can reach what the machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uplink {
    /// They cannot.
    #[default]
    None,
    /// They can, when a program for it is installed.
    Auto,
}

impl FromStr for Uplink {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            _ => Err(Error::Invalid { what: "uplink", value: text.to_owned(), reason: "it is neither none nor auto" }),
        }
    }
}

/// Where hosts find a name server when there is an uplink: the program answers for the machine's own.
pub const NAME_SERVER: &str = "10.0.2.3";

/// The card that the user-mode network appears as, on the wire's host.
const CARD: &str = "up0";

/// Directories in which programs are looked for.
const PROGRAMS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

const PID_FILE: &str = "uplink.pid";

/// The name of the pipe's end that the wire's first process holds.
pub(crate) const SOCKET: &str = "uplink";

/// A program that can be an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    Slirp(PathBuf),
    Pasta(PathBuf),
}

/// The program that [`Uplink::Auto`] would use here.
pub(crate) fn program() -> Option<Program> {
    let find = |name: &str| PROGRAMS.iter().map(|d| Path::new(d).join(name)).find(|path| path.is_file());
    find("slirp4netns").map(Program::Slirp).or_else(|| find("pasta").map(Program::Pasta))
}

/// Whether there is a program that [`Uplink::Auto`] would use here.
pub fn uplink_available() -> bool {
    program().is_some()
}

/// What the wire runs: it hides its hosts behind the uplink's address, and holds the pipe by having been given it.
pub(crate) fn masquerade() -> CommandSpec {
    let rule = format!("iptables -w -t nat -A POSTROUTING -o {CARD} -j MASQUERADE");
    CommandSpec {
        name: "masquerade".to_owned(),
        argv: ["/bin/sh", "-euc", &rule].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
        restart: Restart::OnFailure,
        sockets: vec![SOCKET.to_owned()],
    }
}

/// Opens the card in a host's namespace. Returns when it is configured. `life` becomes readable when the host ends.
pub(crate) fn attach(host: &Host, program: &Program, life: OwnedFd) -> Result<(), Error> {
    let path = host.log("uplink");
    let log = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("open", &path))?;
    match program {
        Program::Slirp(program) => slirp(host, program, &life, log),
        Program::Pasta(program) => pasta(host, program, log),
    }
}

fn slirp(host: &Host, program: &Path, life: &OwnedFd, log: File) -> Result<(), Error> {
    let (ready, signal) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::call("make a pipe"))?;
    let mut command = Command::new(program);
    command.args(["--configure", "--mtu=1500", "--disable-host-loopback", "--exit-fd=3", "--ready-fd=4"]);
    command.args([&host.pid().to_string(), CARD]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    sys::unblock_signals(&mut command);
    sys::hand_over(&mut command, &[life.as_raw_fd(), signal.as_raw_fd()]);
    let mut child = command.spawn().map_err(Error::file("run", program))?;
    drop((command, signal));
    std::thread::spawn(move || child.wait());
    // One byte when the card is configured, none when the program has ended.
    let read = File::from(ready).read(&mut [0; 1]).map_err(Error::file("wait for", program))?;
    if read == 1 { Ok(()) } else { Err(refused(host, program)) }
}

/// It goes into the background by itself when the card is configured.
fn pasta(host: &Host, program: &Path, log: File) -> Result<(), Error> {
    let status = Command::new(program)
        .args(["--config-net", "--quiet", "--no-map-gw", "--ns-ifname", CARD, "--dns-forward", NAME_SERVER])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--pid"])
        .arg(host.directory().join(PID_FILE))
        .arg(host.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status();
    if status.map_err(Error::file("run", program))?.success() { Ok(()) } else { Err(refused(host, program)) }
}

fn refused(host: &Host, program: &Path) -> Error {
    Error::Init { host: host.name().to_owned(), message: format!("{} failed; see log/uplink.log", program.display()) }
}

/// Ends a pasta that was started from a directory. Its pid may be another program's by now: that one is left alone.
pub(crate) fn end(directory: &Path) -> Result<(), Error> {
    let path = directory.join(PID_FILE);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    if let Ok(pid) = text.trim().parse::<i32>() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("pasta") || name.starts_with("passt") {
            let process = sys::pidfd(Pid::from_raw(pid))?;
            let _ = sys::signal(&process, Signal::SIGKILL);
        }
    }
    fs::remove_file(&path).map_err(Error::file("remove", &path))
}
