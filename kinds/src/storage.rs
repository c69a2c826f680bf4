//! Kinds of `storage.k8s.io`.

pub(crate) mod capacity;
pub(crate) mod classes;
pub(crate) mod csi_driver;
pub(crate) mod csi_node;
pub(crate) mod parameters;
pub(crate) mod volume_attachment;
