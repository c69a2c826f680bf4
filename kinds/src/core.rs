//! The core group: one file per kind; `pod_spec` is what pods and templates share.

pub(crate) mod claim_template;
pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod limit_range;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub mod pod;
pub(crate) mod pod_spec;
pub(crate) mod pod_template;
pub(crate) mod pod_warnings;
pub(crate) mod replication_controller;
pub(crate) mod resource_quota;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;

pub use service::check_service_addresses;
