//! The first process of a pod: holds the pod's namespaces and buries orphans, in a few kilobytes.
//!
//! A program of its own, because a pod has one each: the whole binary under another name costs megabytes of relocated
//! pages per pod. Without the standard library there is nothing to relocate. `build.rs` compiles it, the binary carries
//! it, and the binary's own image has it as `/pause`.
#![no_std]
#![no_main]

mod sys;

use sys::{SIGCHLD, SIGINT, SIGTERM};

/// Where the kernel starts the program.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    sys::block(&[SIGCHLD, SIGINT, SIGTERM]);
    loop {
        if sys::wait(&[SIGCHLD, SIGINT, SIGTERM]) != SIGCHLD {
            sys::exit(0);
        }
        sys::bury();
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(1)
}
