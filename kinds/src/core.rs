//! The core group: one file per kind; `pod_spec` is what pods and templates share.

pub(crate) mod claim_template;
pub mod pod;
pub(crate) mod pod_spec;
pub(crate) mod pod_warnings;
