//! coordination.k8s.io: leases.

pub(crate) mod lease;
