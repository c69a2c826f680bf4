//! The first process of a host.
//!
//! [`run`] is a program of its own: it reads a [`HostSpec`] from its standard input (a socket), makes the namespaces,
//! becomes PID 1 of them, waits until the network stands, and then supervises the commands for the rest of its life.
//! It starts no thread and no async runtime, so that forking is sound and little can go wrong in the process on which
//! the whole host hangs.

mod root;
mod supervise;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};

use crate::cgroup::{self, Hierarchy};
use crate::handle::{CGROUPS_FILE, LOCK_FILE, PID_FILE};
use crate::{Error, HostSpec, sys};

/// Somebody who only looks whether the host runs holds the lock for a moment.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// Becomes the first process of a host. Returns the exit code of the process.
pub fn run() -> i32 {
    let Ok(standard_input) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return 2;
    };
    let mut channel = Channel(BufReader::new(UnixStream::from(standard_input)));
    match stages(&mut channel) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}", error.chain());
            channel.say(&format!("error {}", error.chain().replace('\n', " ")));
            1
        }
    }
}

struct Channel(BufReader<UnixStream>);

impl Channel {
    /// A caller that is gone is noticed when its next line is awaited.
    fn say(&mut self, line: &str) {
        let _ = self.0.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

/// Stage 1, outside: lock, cgroups, namespaces, fork. Its child is the host.
fn stages(channel: &mut Channel) -> Result<(), Error> {
    let text = channel.hear().unwrap_or_default();
    let spec: HostSpec = serde_json::from_str(&text).map_err(|_| Error::Invalid {
        what: "specification",
        value: text.clone(),
        reason: "it is not a host's JSON",
    })?;
    let sockets = sys::take_handed(spec.sockets.len())?;
    let _ = nix::unistd::setsid();
    let lock = lock(&spec.directory)?;
    forget_earlier(&spec.directory)?;
    let hierarchies = cgroup::hierarchies()?;
    let cgroups = make_cgroups(&spec)?;
    cgroup::join(&cgroups)?;
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).map_err(Error::call("make namespaces (is this root?)"))?;
    cgroup::delegate(&cgroups)?;
    if let Some(pid) = sys::fork()? {
        let path = spec.directory.join(PID_FILE);
        fs::write(&path, format!("{pid} {}\n", spec.name)).map_err(Error::file("write", &path))?;
        channel.say(&format!("pid {pid}"));
        // The child holds the same lock; unlocking here would unlock it there.
        std::mem::forget(lock);
        return Ok(());
    }
    become_host(channel, &spec, sockets, &hierarchies, lock)
}

/// Stage 2, PID 1: everything inside.
fn become_host(
    channel: &mut Channel,
    spec: &HostSpec,
    sockets: Vec<OwnedFd>,
    hierarchies: &[Hierarchy],
    lock: Flock<File>,
) -> Result<(), Error> {
    let path = spec.directory.join("log");
    fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
    let logs = File::open(&path).map_err(Error::file("open", &path))?;
    nix::unistd::sethostname(&spec.name).map_err(Error::call(format!("set the host name {}", spec.name)))?;
    root::assemble(spec, hierarchies)?;
    write_settings(spec)?;
    write_files(spec)?;
    channel.say("ready");
    if channel.hear().as_deref() != Some("go") {
        // The caller is gone: so is the host.
        return Ok(());
    }
    let supervisor = supervise::Supervisor::new(spec, sockets, logs)?;
    channel.say("running");
    let null = File::open("/dev/null").map_err(Error::file("open", Path::new("/dev/null")))?;
    nix::unistd::dup2_stdin(&null).map_err(Error::call("close the channel"))?;
    let _ = channel.0.get_ref().shutdown(std::net::Shutdown::Both);
    supervisor.run()?;
    drop(lock);
    Ok(())
}

fn lock(directory: &Path) -> Result<Flock<File>, Error> {
    let path = directory.join(LOCK_FILE);
    let deadline = Instant::now() + LOCK_DEADLINE;
    let open = || fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
    let mut file = open().map_err(Error::file("open", &path))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                file = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((_, errno)) => return Err(Error::call(format!("lock {}", path.display()))(errno)),
        }
    }
}

/// The number of an earlier run may be another process's by now: nobody who finds the lock held may believe it.
fn forget_earlier(directory: &Path) -> Result<(), Error> {
    let path = directory.join(PID_FILE);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &path)(e)),
        _ => Ok(()),
    }
}

/// Makes the cgroups and notes where they are first, for whoever has to remove them.
fn make_cgroups(spec: &HostSpec) -> Result<Vec<PathBuf>, Error> {
    let cgroups = cgroup::create(&spec.cgroup)?;
    let list: String = cgroups.iter().map(|c| format!("{}\n", c.display())).collect();
    let path = spec.directory.join(CGROUPS_FILE);
    fs::write(&path, list).map_err(Error::file("write", &path))?;
    Ok(cgroups)
}

fn write_settings(spec: &HostSpec) -> Result<(), Error> {
    for (key, value) in &spec.settings {
        let path = Path::new("/proc/sys").join(key);
        fs::write(&path, value).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn write_files(spec: &HostSpec) -> Result<(), Error> {
    for file in &spec.files {
        if let Some(parent) = file.path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        }
        // A link of the machine (such as resolv.conf into /run) would lead elsewhere.
        let _ = fs::remove_file(&file.path);
        let open = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(file.mode).open(&file.path);
        let written = open.and_then(|mut f| f.write_all(file.content.as_bytes()));
        written.map_err(Error::file("write", &file.path))?;
    }
    Ok(())
}
