//! What tests share: images without a registry, kubectl as a child process, polling with a deadline.
//!
//! Nothing of the product links this crate.

pub mod etcd;
pub mod image;
pub mod kubectl;
pub mod poll;
pub mod recorded;
pub mod upstream;
