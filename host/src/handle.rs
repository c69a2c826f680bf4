//! A running host, seen from outside.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::{Error, Errors, cgroup, sys};

/// How long a killed host may take to end. The kernel takes down its mounts and links in this time.
const END_SECONDS: u64 = 20;

/// How long a host that is being made may take to say which process it is.
const MAKING_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
        let Some(text) = running_pid(directory)? else { return Ok(None) };
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

/// What the process that holds the lock of a directory has written about itself; none when nobody holds it. Between
/// the lock and the first word lies a moment, which is waited for: the host is being made.
fn running_pid(directory: &Path) -> Result<Option<String>, Error> {
    let deadline = Instant::now() + MAKING_DEADLINE;
    loop {
        if !is_locked(&directory.join(LOCK_FILE))? {
            return Ok(None);
        }
        let path = directory.join(PID_FILE);
        match fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => return Ok(Some(text)),
            Ok(text) if Instant::now() > deadline => {
                return Err(Error::Invalid {
                    what: "pid file",
                    value: text,
                    reason: "it does not end with a line feed",
                });
            }
            Err(e) if e.kind() != ErrorKind::NotFound || Instant::now() > deadline => {
                return Err(Error::file("read", &path)(e));
            }
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

fn is_locked(path: &Path) -> Result<bool, Error> {
    let lock = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.map_err(Error::file("open", path))?,
    };
    match Flock::lock(lock, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(Error::call(format!("lock {}", path.display()))(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(directory: &Path) -> Flock<File> {
        let file = File::create(directory.join(LOCK_FILE)).unwrap();
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap()
    }

    #[test]
    fn a_host_in_the_making_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running_pid(directory.path()).unwrap(), None, "never started");
        let lock = locked(directory.path());
        let path = directory.path().join(PID_FILE);
        let late = std::thread::spawn(move || {
            fs::write(&path, "1").unwrap();
            std::thread::sleep(LOOK_AGAIN * 3);
            fs::write(&path, "17 a\n").unwrap();
        });
        assert_eq!(running_pid(directory.path()).unwrap().as_deref(), Some("17 a\n"));
        late.join().unwrap();
        drop(lock);
        assert_eq!(running_pid(directory.path()).unwrap(), None, "a stale number is not believed");
    }
}
