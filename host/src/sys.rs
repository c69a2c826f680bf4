//! The raw system calls: fork, descriptors by number, and what a child does before it becomes another program.
#![allow(unsafe_code)]

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{ForkResult, Pid};

use crate::Error;

/// The first descriptor that a program is handed, after the three standard ones.
pub(crate) const FIRST_HANDED: RawFd = 3;

/// Forks a process that has one thread. `None` in the child.
pub(crate) fn fork() -> Result<Option<Pid>, Error> {
    // SAFETY: callers run before any thread is started (init stage 1, and `enter` from a fresh process), so the child
    // holds no lock of a thread that does not exist in it.
    match unsafe { nix::unistd::fork() }.map_err(Error::call("fork"))? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// The descriptors from 3 on that this process was started with, closed on exec from now on.
pub(crate) fn take_handed(count: usize) -> Result<Vec<OwnedFd>, Error> {
    let count = RawFd::try_from(count).expect("a handful of sockets");
    (FIRST_HANDED..FIRST_HANDED + count).map(take).collect()
}

fn take(number: RawFd) -> Result<OwnedFd, Error> {
    // SAFETY: the number was given to this process by its starter for this purpose, nothing else here uses it, and the
    // F_SETFD below fails when it is not open.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let flags = FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC);
    match fcntl(&descriptor, flags) {
        Ok(_) => Ok(descriptor),
        Err(errno) => {
            // Not ours to close.
            std::mem::forget(descriptor);
            Err(Error::call(format!("take descriptor {number}"))(errno))
        }
    }
}

/// The listening sockets that this process was handed (systemd's `LISTEN_FDS`, `LISTEN_FDNAMES`), with their names.
/// The two values are the caller's to read, for a library reads no environment. Call at most once in a process.
pub fn inherited_sockets(count: &str, names: &str) -> Result<Vec<(String, TcpListener)>, Error> {
    let wrong = |_| Error::Invalid {
        what: "number of handed-in sockets",
        value: count.to_owned(),
        reason: "it is not a number",
    };
    let descriptors = take_handed(count.parse().map_err(wrong)?)?;
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(names.zip(descriptors.into_iter().map(TcpListener::from)).collect())
}

/// Lets a command inherit descriptors as 3, 4, ... Those given must stay open until it is spawned.
pub(crate) fn hand_over(command: &mut Command, descriptors: &[RawFd]) {
    let descriptors = descriptors.to_vec();
    // SAFETY: between fork and exec only dup2, fcntl and the vector made before are touched, all safe in a child.
    unsafe {
        command.pre_exec(move || place(&descriptors));
    }
}

/// First out of the way of the target numbers, then to them: a source may be the target of another.
fn place(descriptors: &[RawFd]) -> std::io::Result<()> {
    let mut lifted = [0; MAX_HANDED];
    if descriptors.len() > MAX_HANDED {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    for (slot, descriptor) in lifted.iter_mut().zip(descriptors) {
        // SAFETY: plain system calls on numbers.
        *slot = unsafe { libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, FIRST_HANDED + MAX_HANDED as RawFd) };
        if *slot < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    for (target, source) in (FIRST_HANDED..).zip(&lifted[..descriptors.len()]) {
        // SAFETY: as above; dup2 clears close-on-exec on the copy.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// More sockets than this are refused: the limit lets a child work without allocating.
const MAX_HANDED: usize = 64;

/// Gives a command clean signal handling: init blocks what it reads from its signal descriptor, a command must not.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: sigprocmask and setsid only.
    unsafe {
        command.pre_exec(|| {
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// A descriptor for a process, readable when it has ended. It stays the same process, whatever happens to the number.
pub(crate) fn pidfd(pid: Pid) -> Result<File, Error> {
    // SAFETY: pidfd_open takes two numbers and returns a new descriptor or -1.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let number = nix::errno::Errno::result(number).map_err(Error::call(format!("open process {pid}")))?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { File::from_raw_fd(number as RawFd) })
}

/// Sends a signal to the process behind a descriptor.
pub(crate) fn signal(pidfd: &File, signal: nix::sys::signal::Signal) -> Result<(), nix::errno::Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor, a signal number, no siginfo, no flags.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, none, 0) };
    nix::errno::Errno::result(result).map(drop)
}
