//! Pods and nodes as a decision needs them: digested once when they change, read many times.

pub(crate) mod affinity;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod resources;
pub(crate) mod storage;

pub(crate) use self::{
    affinity::{NodeSelector, PodTerm, SpreadConstraint},
    node::NodeInfo,
    pod::{HostPort, PodInfo},
    resources::Resources,
};
