//! Kinds of `autoscaling`: the rules are written for version 2.

pub(crate) mod behavior;
pub(crate) mod horizontal;
pub(crate) mod metrics;
pub(crate) mod row;
