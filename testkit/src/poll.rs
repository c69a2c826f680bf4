//! Waiting for something to become true, with a deadline instead of a guess.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(200);

/// Tries until it succeeds.
///
/// # Errors
/// The last failure, at the deadline.
pub fn until<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) if Instant::now() >= end => {
                return Err(anyhow!("{what}: not within {} s: {failure:#}", deadline.as_secs()));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
