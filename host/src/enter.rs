//! Running a command inside a host that stands.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Error, sys};

/// Where to go and what to run there.
#[derive(Debug, Clone)]
pub struct EnterSpec {
    /// The host's first process.
    pub pid: i32,
    /// Program and arguments, in the host.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
}

/// Goes into a host and runs a command there with this process's standard streams; the command's exit code.
/// Must run before any thread was started.
pub fn enter(spec: &EnterSpec) -> Result<i32, Error> {
    let process = sys::pidfd(Pid::from_raw(spec.pid))?;
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP;
    setns(&process, namespaces).map_err(Error::call(format!("enter the host of pid {}", spec.pid)))?;
    nix::unistd::chdir("/").map_err(Error::call("enter /"))?;
    let Some(child) = sys::fork()? else {
        let failed = Command::new(&spec.argv[0]).args(&spec.argv[1..]).env_clear().envs(spec.env.clone()).exec();
        eprintln!("cannot run {}: {failed}", spec.argv[0]);
        std::process::exit(127);
    };
    loop {
        match waitpid(child, None).map_err(Error::call("wait for the command"))? {
            WaitStatus::Exited(_, code) => return Ok(code),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}
