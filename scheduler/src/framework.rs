//! What a plug-in is: one file that filters nodes, scores them, or both, under upstream's name.
//!
//! A decision asks each plug-in once for a filter of this pod ([`Plugin::filter`]), runs the filters over nodes, and
//! asks each for scores of the nodes that are left ([`Plugin::score`]). A plug-in keeps nothing between decisions: what
//! it needs lies in the snapshot.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use crate::{
    cache::Snapshot,
    model::{NodeInfo, PodInfo},
};

/// Scores go from 0 to this, before weights.
pub(crate) const MAX_SCORE: i64 = 100;

/// Why a node, or every node, is not for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Upstream's texts, counted in the message that users read.
    pub(crate) reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node could help.
    pub(crate) resolvable: bool,
}

impl Rejection {
    /// Removing pods could help.
    pub(crate) fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    /// Removing pods cannot help.
    pub(crate) fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// Looks at one node.
pub(crate) type Check<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Rejection> + 'a>;

/// One pod's filter of one plug-in.
pub(crate) enum Filter<'a> {
    /// The plug-in has nothing to say about this pod.
    Skip,
    /// Nodes are looked at one by one.
    Check(Check<'a>),
    /// The same, and only these nodes can be right.
    Only(BTreeSet<String>, Check<'a>),
}

/// What happened in the cluster that could make a rejected pod fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum ClusterEvent {
    NodeAdd = 1,
    NodeAllocatable = 1 << 1,
    NodeLabel = 1 << 2,
    NodeTaint = 1 << 3,
    AssignedPodAdd = 1 << 4,
    AssignedPodUpdate = 1 << 5,
    AssignedPodDelete = 1 << 6,
    PodUpdate = 1 << 7,
    Namespace = 1 << 8,
    /// A claim, a volume, a class or what a node can attach.
    Storage = 1 << 9,
}

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events(u16);

impl Events {
    pub(crate) const ALL: Self = Self(u16::MAX);

    pub(crate) fn of(events: &[ClusterEvent]) -> Self {
        Self(events.iter().fold(0, |set, event| set | *event as u16))
    }

    pub(crate) fn contains(self, event: ClusterEvent) -> bool {
        self.0 & event as u16 != 0
    }

    pub(crate) fn contains_bits(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One plug-in.
pub(crate) trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// What can make a pod fit that this plug-in rejected.
    fn events(&self) -> Events {
        Events::default()
    }

    /// The filter for a pod. An error rejects every node at once.
    fn filter<'a>(&'a self, _pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        Ok(Filter::Skip)
    }

    /// A score from 0 to [`MAX_SCORE`] for each of `nodes`, in their order; None when the plug-in has no preference.
    fn score(&self, _pod: &PodInfo, _nodes: &[Arc<NodeInfo>], _snapshot: &Snapshot) -> Option<Vec<i64>> {
        None
    }
}

/// Stretches scores to 0 to [`MAX_SCORE`]; `reverse` makes the lowest the best.
pub(crate) fn normalize(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        *score = match (max, reverse) {
            (0, true) => MAX_SCORE,
            (0, false) => 0,
            (_, true) => MAX_SCORE - *score * MAX_SCORE / max,
            (_, false) => *score * MAX_SCORE / max,
        };
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_stretched() {
        assert_eq!(normalize(vec![0, 1, 2], false), [0, 50, 100]);
        assert_eq!(normalize(vec![0, 1, 2], true), [100, 50, 0]);
        assert_eq!(normalize(vec![0, 0], true), [100, 100]);
        assert_eq!(normalize(vec![0, 0], false), [0, 0]);
    }
}
