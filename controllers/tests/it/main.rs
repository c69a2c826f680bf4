//! The controllers against a real API server, with pods that a hollow node runs.
//!
//! The server is this build's own, or upstream's: see `cluster::program`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod basics;
mod certificates;
mod cluster;
mod daemons;
mod deployments;
mod garbage;
mod hollow;
mod jobs;
mod legacytokens;
mod nodes;
mod replicas;
mod stateful;
mod volumes;
