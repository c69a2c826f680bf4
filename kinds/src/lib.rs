//! What each built-in resource is: defaults, preparation, validation, selectable fields and table rows.
//!
//! Pure: no I/O, no clock (the time of a request is in [`Request`]), no async runtime. Objects are JSON trees that the
//! schema table has type-checked; a wrong type reads as absent and never panics.
//!
//! - [`strategy`] finds a resource's [`Strategy`]; [`table`] is the one list of them;
//! - [`validate`] is the whole validation of a write, metadata included, in upstream's order;
//! - [`reset`] says what a write at a path leaves as it is, for managed fields;
//! - one folder per API group holds one file per kind; kinds without a file are [`plain`];
//! - [`names`], [`object_meta`], [`conditions`] and [`tree`] are what the kinds are written with.

mod admission;
pub mod age;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
pub mod conditions;
mod coordination;
pub mod core;
mod devices;
mod diff;
mod discovery;
mod extension;
mod flow;
pub mod ip;
mod migration;
pub mod names;
mod networking;
mod node;
pub mod object_meta;
pub mod plain;
mod policy;
mod rbac;
pub mod reset;
pub mod resource_name;
mod rows;
mod scheduling;
mod shown;
mod storage;
pub mod strategy;
pub mod table;
pub mod tree;
pub mod validate;
mod workload;

pub use strategy::{Request, Strategy};
pub use table::strategy;
