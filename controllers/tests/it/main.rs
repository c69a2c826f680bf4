//! The controllers against a real API server, with pods that a hollow node runs.
//!
//! The server is this build's own, or upstream's: see `cluster::program`.

mod basics;
mod cluster;
mod daemons;
mod deployments;
mod garbage;
mod hollow;
mod nodes;
mod replicas;
