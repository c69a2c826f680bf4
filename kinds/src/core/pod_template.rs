//! Pod templates and the states of control plane components.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_warnings;
use crate::rows;
use crate::strategy::{Generation, Request, Strategy};
use crate::tree::{at, list, same_at, text};
use crate::workload;

/// The pod template strategy.
#[derive(Debug)]
pub(crate) struct PodTemplate;

/// The strategy of component states, which are only read.
#[derive(Debug)]
pub(crate) struct ComponentStatus;

impl Strategy for PodTemplate {
    fn generation(&self) -> Generation {
        Generation::Content
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        workload::default_template(object);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        workload::template(at(object, "template"), &Path::new("template"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some_and(|old| same_at(new, old, "template")) {
            return Vec::new();
        }
        pod_warnings::of_template(at(new, "template"), &Path::new("template"))
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        let template = at(object, "template");
        let [names, images] = rows::names_and_images(at(template, "spec"));
        let labels = rows::labels(at(template, "metadata"), "labels");
        Some(vec![json!(meta::name(object)), names, images, json!(labels)])
    }
}

impl Strategy for ComponentStatus {
    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        let healthy = list(object, "conditions").iter().find(|condition| text(condition, "type") == "Healthy");
        let [status, message, error] = healthy.map_or(["Unknown", "", ""], |condition| {
            let status = if text(condition, "status") == "True" { "Healthy" } else { "Unhealthy" };
            [status, text(condition, "message"), text(condition, "error")]
        });
        Some(vec![rows::name(object), json!(status), json!(message), json!(error)])
    }
}
