//! Patch: the stored object, changed by a document, then written as an update.

use api::{Reason, Status, Value};

use super::call::Call;
use crate::negotiate;

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
}

const PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
    application/strategic-merge-patch+json, application/apply-patch+yaml";

impl PatchKind {
    /// Reads the `Content-Type` of a PATCH.
    pub(crate) fn of(media_type: &str) -> Result<Self, Status> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Err(negotiate::unsupported("server-side apply is not served yet")),
            _ => Err(negotiate::unsupported(&format!(
                "the body of the request was in an unknown format - accepted media types include: {PATCH_TYPES}"
            ))),
        }
    }
}

impl Call<'_> {
    /// The object that a patch makes of the served one.
    pub(crate) fn patched(&self, _kind: PatchKind, _patch: &Value, _old: &Value) -> Result<Value, Status> {
        Err(Status::new(Reason::UnsupportedMediaType, "patches are not served yet"))
    }
}
