//! A running host, seen from outside.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::{Error, Errors, cgroup, sys};

/// How long a killed host may take to end. The kernel takes down its mounts and links in this time.
const END_SECONDS: u64 = 20;

pub(crate) const LOCK_FILE: &str = "lock";
pub(crate) const PID_FILE: &str = "pid";
pub(crate) const CGROUPS_FILE: &str = "cgroups";

/// A running host. Dropping this value changes nothing about the host.
#[derive(Debug)]
pub struct Host {
    name: String,
    directory: PathBuf,
    pid: Pid,
    process: File,
}

impl Host {
    /// The host that runs from a directory, if one does. PID 1 holds a lock there as long as it lives,
    /// so a number that was given to another process since is never taken for it.
    pub fn find(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(LOCK_FILE);
        let lock = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::file("open", &path))?,
        };
        match Flock::lock(lock, FlockArg::LockSharedNonblock) {
            Ok(_) => return Ok(None),
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => return Err(Error::call(format!("lock {}", path.display()))(errno)),
        }
        let path = directory.join(PID_FILE);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|w| w.parse().ok());
        let name = words.next().unwrap_or_default();
        let Some(pid) = pid else {
            return Err(Error::Invalid { what: "pid file", value: text, reason: "it holds no number" });
        };
        match Self::adopt(directory, name, Pid::from_raw(pid)) {
            // It ended in between.
            Err(Error::Call { source: Errno::ESRCH, .. }) => Ok(None),
            Ok(host) if host.is_ending() => host.kill().map(|()| None),
            host => host.map(Some),
        }
    }

    /// A process that has been killed gives up its namespaces before its files, and so before its lock.
    fn is_ending(&self) -> bool {
        !Path::new(&format!("/proc/{}/ns/net", self.pid)).exists()
    }

    pub(crate) fn adopt(directory: &Path, name: &str, pid: Pid) -> Result<Self, Error> {
        Ok(Self { name: name.to_owned(), directory: directory.to_owned(), pid, process: sys::pidfd(pid)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first process, as this process's PID namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file that a command writes to.
    pub fn log(&self, command: &str) -> PathBuf {
        self.directory.join("log").join(format!("{command}.log"))
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        !self.ended_within(PollTimeout::ZERO)
    }

    /// Pulls the plug: every process in it is gone when this returns. Its directory and cgroups stay.
    pub fn kill(&self) -> Result<(), Error> {
        match sys::signal(&self.process, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::call(format!("kill pid {} of host {}", self.pid, self.name))(errno)),
        }
        let timeout = PollTimeout::try_from(END_SECONDS * 1000).expect("a few seconds");
        if self.ended_within(timeout) {
            return Ok(());
        }
        Err(Error::Stuck { host: self.name.clone(), pid: self.pid(), seconds: END_SECONDS })
    }

    /// Ends the host of a directory if it runs, and takes away its cgroups and the directory. Fine when there is none.
    /// `parents` is how many levels above its cgroups go too when they are empty then.
    pub fn remove(directory: &Path, parents: usize) -> Result<(), Errors> {
        let mut errors = Errors::default();
        let running = errors.collect(Self::find(directory)).flatten();
        if let Some(host) = running
            && errors.collect(host.kill()).is_none()
        {
            // Its files are in use: leave them for the next attempt.
            return errors.into_result();
        }
        errors.absorb(Self::release(directory, parents));
        match fs::remove_dir_all(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            removed => {
                errors.collect(removed.map_err(Error::file("remove", directory)));
            }
        }
        errors.into_result()
    }

    /// Takes away the cgroups of a host that has ended. Its directory stays, to be started from again.
    pub fn release(directory: &Path, parents: usize) -> Result<(), Errors> {
        let mut errors = Errors::default();
        let path = directory.join(CGROUPS_FILE);
        let cgroups = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => errors.collect(text.map_err(Error::file("read", &path))).unwrap_or_default(),
        };
        let cgroups: Vec<PathBuf> = cgroups.lines().map(PathBuf::from).collect();
        errors.absorb(cgroup::remove(&cgroups, parents));
        errors.into_result()
    }

    fn ended_within(&self, timeout: PollTimeout) -> bool {
        let mut descriptors = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut descriptors, timeout), Ok(ready) if ready > 0)
    }
}
