//! The API server as a whole: a listener, TLS, an embedded store in a directory of its own.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking and owns its tasks")]

mod addresses;
mod dual_stack;
mod front;
mod invalid;
mod losses;
mod server;
mod shared;
mod streams;
mod tokens;
