//! Kinds of `node.k8s.io`: runtime classes.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::resources::container;
use crate::core::pod_spec::scheduling::tolerations;
use crate::core::pod_warnings::deprecated_node_label;
use crate::names;
use crate::object_meta::{immutable_unshown, invalid_each, labels};
use crate::resource_name::default_list;
use crate::rows;
use crate::shown;
use crate::strategy::{MetadataCheck, Request, Strategy};
use crate::tree::{at, default_to, enter_some, entries, has, list, some, text};

/// The runtime class strategy.
#[derive(Debug)]
pub(crate) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::AnyFinalizer
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        if let Some(overhead) = enter_some(object, "overhead") {
            default_list(overhead.get_mut("podFixed"));
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let handler = text(object, "handler");
        let path = Path::new("handler");
        if handler.is_empty() {
            errors.required(&path, "");
        } else {
            invalid_each(&path, handler, names::label(handler), errors);
        }
        if let Some(overhead) = some(object, "overhead") {
            let limits = json!({"limits": at(overhead, "podFixed")});
            container(&limits, &[], &Path::new("overhead"), errors);
        }
        if let Some(scheduling) = some(object, "scheduling") {
            self::scheduling(scheduling, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
        immutable_unshown(at(new, "handler"), at(old, "handler"), &Path::new("handler"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let selector = entries(at(new, "scheduling"), "nodeSelector");
        selector
            .filter_map(|(key, _)| deprecated_node_label(key))
            .map(|message| format!("scheduling.nodeSelector: {message}"))
            .collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(text(object, "handler")), rows::age(object, now)])
    }
}

fn scheduling(scheduling: &Value, errors: &mut FieldErrors) {
    let path = Path::new("scheduling");
    if has(scheduling, "nodeSelector") {
        labels(at(scheduling, "nodeSelector"), &path.child("nodeSelector"), errors);
    }
    let path = path.child("tolerations");
    let all = list(scheduling, "tolerations");
    tolerations(all, &path, errors);
    let key = |toleration: &Value| ["key", "operator", "value", "effect"].map(|f| text(toleration, f).to_owned());
    for (index, toleration) in all.iter().enumerate() {
        if all[..index].iter().any(|earlier| key(earlier) == key(toleration)) {
            const FIELDS: [(&str, &str); 5] = [
                ("Key", "key"),
                ("Operator", "operator"),
                ("Value", "value"),
                ("Effect", "effect"),
                ("TolerationSeconds", "tolerationSeconds"),
            ];
            let mut filled = toleration.clone();
            for (_, field) in &FIELDS[..4] {
                default_to(&mut filled, field, "");
            }
            let shown = shown::internal(&filled, &FIELDS);
            errors.push(ErrorKind::Duplicate, &path.index(index), format!("Duplicate value: {shown}"));
        }
    }
}
