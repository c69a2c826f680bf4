//! `ironclad etcd` as a process, asked by etcd's own programs and client.
//!
//! That it keeps the store's contract through the protocol is among the store's tests, and that upstream's API server
//! runs on it among the API server's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod ctl;
mod limits;
mod protocol;
