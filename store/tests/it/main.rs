//! Tests of the store from outside: the contract, faults, and a checker of histories.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod backup;
mod batches;
mod contract;
mod embedded;
mod etcd;
mod faults;
mod history;
mod kill;
mod model;
mod mvcc;
