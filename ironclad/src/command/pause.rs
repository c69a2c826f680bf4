//! `ironclad pause`: the first process of a pod. It holds the pod's namespaces, and buries orphans when the pod's
//! containers share its PID namespace.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

use crate::sys;

/// Waits for SIGTERM or SIGINT.
pub(crate) fn run() -> ExitCode {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.add(Signal::SIGINT);
    let waited = sys::ignore_children().and_then(|()| wanted.thread_block()).and_then(|()| wanted.wait());
    match waited {
        Ok(_) => ExitCode::SUCCESS,
        Err(errno) => {
            eprintln!("cannot wait for signals: {errno}");
            ExitCode::FAILURE
        }
    }
}
