//! The node agent: registers the node, runs the pods bound to it, tells about them, serves their streams.
//!
//! ```text
//!  API pods ----.                              .--> cri::Runtime (containerd)
//!  manifests ---+--> Pods --> one worker each -+--> volumes, cgroups, /etc/hosts
//!  runtime events --^            |   ^         `--> Statuses --> API
//!                                |   '-- Probes
//!                                `--> plan, status, spec: pure functions
//! ```
//!
//! Constraints, in order: no pod can stop another (a worker touches only what carries its pod's uid); a restart of
//! this program restarts no container (everything is read back from the runtime); what a user sees (reasons, messages,
//! events, conditions) is upstream's, because people and programs act on it.

mod args;
mod backoff;
mod certificates;
mod cgroups;
mod config;
mod error;
mod events;
mod eviction;
mod housekeeping;
mod images;
mod kubelet;
mod logs;
mod manifests;
mod node;
mod objects;
mod observe;
mod observed;
mod plan;
mod pod;
mod pods;
mod private;
mod probe;
mod run;
mod server;
mod spec;
mod status;
mod statuses;
mod tokens;
mod trust;
mod volumes;
mod watch;
mod worker;

pub use args::Args;
pub use config::{Cgroups, Config, ImagePolicy, LogPolicy, Server, Thresholds};
pub use error::Error;
pub use run::{run, run_with};
