//! Container runtime: what a node agent asks of the program that runs containers.
//!
//! ```text
//!   kubelet --> Runtime (trait) --> Containerd --> CRI v1 (gRPC over a unix socket)
//!                    |                  `--------> containerd's own API, where CRI has no call
//!                    `------------> fake::Fake (tests)
//! ```
//!
//! CRI covers sandboxes, containers and images. Four things go through containerd's own API: importing
//! an image from a tar stream, exec with a stdin that can be half closed, exit events (containerd 1.6
//! has no CRI event stream), and nothing else.
//!
//! This crate knows no Kubernetes object: it speaks in CRI messages, re-exported as [`v1`].

pub mod containerd;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod process;
mod runtime;
pub mod spdy;

pub use containerd::Containerd;
pub use error::Error;
pub use k8s_cri::v1;
pub use process::{ByteReader, ByteWriter, Process, ProcessControl};
pub use runtime::{AttachRequest, Event, EventKind, ExecRequest, Runtime};
