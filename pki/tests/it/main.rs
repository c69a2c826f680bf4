//! The public surface of `pki`, used as the binary and the components use it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod certificates;
mod kubeconfigs;
mod tls;
mod tokens;

/// A moment that every test shares: 2026-11-21T08:00:00Z.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_795_248_000).expect("a valid second")
}
