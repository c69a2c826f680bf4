//! The one raw call of this crate.
#![allow(unsafe_code)]

use nix::sys::signal::{SigHandler, Signal};

/// Lets the kernel bury this process's children.
pub(crate) fn ignore_children() -> nix::Result<()> {
    // SAFETY: no handler runs; the process has one thread and no other user of SIGCHLD.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)
}
