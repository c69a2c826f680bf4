//! Kinds of `flowcontrol.apiserver.k8s.io`.

pub(crate) mod level;
pub(crate) mod rules;
pub(crate) mod schema;
