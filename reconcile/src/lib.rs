//! The client side of a control loop: reflectors, keyed queues, expectations, events, leader election.
//!
//! Constraints, in order: a process has one reflector per kind, however many loops read it; handlers only enqueue
//! keys; a key is never worked on twice at once; what fails is tried again after a growing delay.
//!
//! ```text
//! watcher -> Informer (cache) -> handlers -> Queue -> run_workers(sync) -> Client, Recorder
//!                  \-> Index        \-> Expectations
//! ```

mod client;
mod expectations;
mod index;
mod informer;
mod key;
pub mod lease;
mod queue;
mod recorder;
mod workers;

pub use client::connect;
pub use expectations::Expectations;
pub use index::Index;
pub use informer::{Change, Feed, Informer, Informers, Object, Owned};
pub use key::{Key, controller_of, controller_ref, reference};
pub use lease::LeaderLease;
pub use queue::Queue;
pub use recorder::{EventType, Recorder};
pub use workers::run_workers;
