//! `scale`: a workload's replicas as a kind of their own.

use api::field::{FieldErrors, Path};
use api::selector::LabelSelector;
use api::{Status, Value, meta};
use jiff::Timestamp;
use kinds::tree::{at, dig, enter, int, put};
use serde_json::json;

use super::Part;

/// The scale of one kind of workload.
pub(super) struct Scale {
    group: &'static str,
    resource: &'static str,
    /// The selector is a plain map of labels.
    plain_selector: bool,
}

/// The workloads that have a scale.
static SCALES: [Scale; 4] = [
    Scale { group: "", resource: "replicationcontrollers", plain_selector: true },
    Scale { group: "apps", resource: "deployments", plain_selector: false },
    Scale { group: "apps", resource: "replicasets", plain_selector: false },
    Scale { group: "apps", resource: "statefulsets", plain_selector: false },
];

/// The scale of a resource, if it has one.
pub(super) fn of(group: &str, resource: &str) -> Option<&'static dyn Part> {
    let found = SCALES.iter().find(|scale| scale.group == group && scale.resource == resource);
    found.map(|scale| scale as &dyn Part)
}

impl Part for Scale {
    fn of(&self, workload: &Value) -> Result<Value, Status> {
        let selector = at(at(workload, "spec"), "selector");
        let selector = if self.plain_selector {
            LabelSelector::from_map(Some(selector))
        } else {
            LabelSelector::from_object(selector).map_err(|error| Status::bad_request(error.to_string()))?
        };
        let mut metadata = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = meta::metadata(workload).and_then(|m| m.get(field)) {
                metadata[field] = value.clone();
            }
        }
        let mut status = json!({ "replicas": int(at(workload, "status"), "replicas") });
        if !selector.is_everything() {
            status["selector"] = selector.to_string().into();
        }
        let mut spec = json!({});
        let replicas = int(at(workload, "spec"), "replicas");
        if replicas != 0 {
            spec["replicas"] = replicas.into();
        }
        Ok(json!({ "metadata": metadata, "spec": spec, "status": status }))
    }

    fn into(&self, workload: &Value, scale: &Value) -> Result<Value, Status> {
        let name = meta::name(workload);
        let replicas = dig(scale, &["spec", "replicas"]).as_i64().unwrap_or(0);
        if replicas < 0 {
            let mut errors = FieldErrors::new();
            let spec = Path::new("spec");
            errors.invalid(&spec.child("replicas"), replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", name, &errors));
        }
        let uid = meta::uid(scale);
        if !uid.is_empty() && uid != meta::uid(workload) {
            let found = meta::uid(workload);
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
            return Err(Status::conflict(self.group, &format!("{}/scale", self.resource), name, &why));
        }
        let mut changed = workload.clone();
        put(enter(&mut changed, "spec"), "replicas", replicas);
        meta::set(&mut changed, "resourceVersion", meta::resource_version(scale).into());
        Ok(changed)
    }
}

/// The cells of a scale's table row.
pub(super) fn cells(scale: &Value, now: Timestamp) -> Vec<Value> {
    let replicas = |part: &str| int(at(scale, part), "replicas");
    vec![
        meta::name(scale).into(),
        replicas("spec").into(),
        replicas("status").into(),
        kinds::age::of(scale, now).into(),
    ]
}
