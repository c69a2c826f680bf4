//! The words of the Kubernetes API: names, errors, selectors, quantities, patches and the schema table.
//!
//! Everything here is pure: no I/O, no clock, no async runtime. Objects are JSON trees ([`Value`]); the
//! schema table says what their fields mean. The crate's pieces:
//!
//! - [`amounts`], [`pod_resources`], [`quota`]: amounts of resources, what a pod asks for, what quotas count;
//! - [`Status`]: the one error type that a client can see, and [`field`], the errors of single fields in it;
//! - [`meta`]: accessors for `metadata` on a tree;
//! - [`patch`]: JSON, merge and strategic merge patches;
//! - [`protobuf`]: the second form of the wire;
//! - [`schema`]: the schema table, and decoding by it;
//! - [`selector`]: label and field selectors;
//! - [`names`]: group, version, resource and kind;
//! - [`time`]: the two time formats of the wire.

pub mod amounts;
pub mod apply;
pub mod field;
pub mod meta;
pub mod names;
pub mod patch;
pub mod pod_resources;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;

pub use names::{GroupVersion, GroupVersionKind, GroupVersionResource};
pub use serde_json::{Map, Value};
pub use status::{Reason, Status};
