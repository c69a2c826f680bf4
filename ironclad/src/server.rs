//! The control plane in one process: API server, controllers, scheduler, add-ons, and the approver of nodes'
//! certificates; each part with its own identity, and none holding up another.
//!
//! The node's agents run in this process too on an ordinary host (`ironclad server`), and in one of their own in a
//! throw-away host, where PID 1 supervises both.

mod certificates;
mod control_plane;
pub(crate) mod identities;
mod role;

pub(crate) use self::control_plane::{Settings, run};
