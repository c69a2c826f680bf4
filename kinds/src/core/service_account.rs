//! ServiceAccounts.

use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{list_mut, text};

/// The service account strategy.
#[derive(Debug)]
pub(crate) struct ServiceAccount;

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

impl Strategy for ServiceAccount {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        name_only(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value, _request: &Request<'_>) {
        name_only(new);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let marked = |object: &Value| meta::annotation(object, MOUNTABLE).is_some();
        if !marked(new) || old.is_some_and(marked) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), rows::age(object, now)])
    }
}

/// References to secrets keep their names only.
fn name_only(object: &mut Value) {
    for secret in list_mut(object, "secrets") {
        *secret = match text(secret, "name") {
            "" => json!({}),
            name => json!({"name": name}),
        };
    }
}
