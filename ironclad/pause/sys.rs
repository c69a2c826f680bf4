//! The system calls of a program without a library.
#![allow(unsafe_code)]

use core::arch::asm;

pub(crate) const SIGINT: i64 = 2;
pub(crate) const SIGTERM: i64 = 15;
pub(crate) const SIGCHLD: i64 = 17;

const SIG_BLOCK: i64 = 0;
const WNOHANG: i64 = 1;
/// The kernel's signal set has 64 bits.
const SET_BYTES: i64 = 8;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGPROCMASK: i64 = 14;
    pub(super) const WAIT4: i64 = 61;
    pub(super) const RT_SIGTIMEDWAIT: i64 = 128;
    pub(super) const EXIT_GROUP: i64 = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const RT_SIGPROCMASK: i64 = 135;
    pub(super) const WAIT4: i64 = 260;
    pub(super) const RT_SIGTIMEDWAIT: i64 = 137;
    pub(super) const EXIT_GROUP: i64 = 94;
}

#[cfg(target_arch = "x86_64")]
fn call(number: i64, arguments: [i64; 4]) -> i64 {
    let result;
    // SAFETY: the callers below pass numbers, null, or pointers to values that outlive the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: i64, arguments: [i64; 4]) -> i64 {
    let result;
    // SAFETY: the callers below pass numbers, null, or pointers to values that outlive the call.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            options(nostack)
        );
    }
    result
}

fn set(signals: &[i64]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Keeps signals from being handled, so that they can be waited for.
pub(crate) fn block(signals: &[i64]) {
    let set = set(signals);
    call(number::RT_SIGPROCMASK, [SIG_BLOCK, &raw const set as i64, 0, SET_BYTES]);
}

/// Waits for one of the signals.
pub(crate) fn wait(signals: &[i64]) -> i64 {
    let set = set(signals);
    loop {
        let signal = call(number::RT_SIGTIMEDWAIT, [&raw const set as i64, 0, 0, SET_BYTES]);
        if signal > 0 {
            return signal;
        }
    }
}

/// Collects every child that has ended.
pub(crate) fn bury() {
    while call(number::WAIT4, [-1, 0, WNOHANG, 0]) > 0 {}
}

/// Ends the process.
pub(crate) fn exit(code: i64) -> ! {
    call(number::EXIT_GROUP, [code, 0, 0, 0]);
    loop {}
}
