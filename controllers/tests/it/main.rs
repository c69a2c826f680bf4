//! The controllers against a real API server, with pods that a hollow node runs.
//!
//! The server is upstream's, when `TEST_KUBE_APISERVER` and `TEST_ETCD` name the programs.

mod basics;
mod cluster;
mod deployments;
mod garbage;
mod hollow;
mod nodes;
mod replicas;
