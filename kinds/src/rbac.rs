//! rbac.authorization.k8s.io: roles and bindings, each at cluster scope and in a namespace.

pub(crate) mod binding;
pub(crate) mod role;

/// The API group, which subjects and references name.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
