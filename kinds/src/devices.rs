//! Kinds of `resource.k8s.io`: what is known of devices, and who has claimed them.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::object_meta::immutable;
use crate::rows;
use crate::strategy::{Generation, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, enter, has, list, list_mut, put, same_at, text};

/// The device class strategy.
#[derive(Debug)]
pub(crate) struct DeviceClass;

/// The resource claim strategy.
#[derive(Debug)]
pub(crate) struct ResourceClaim;

/// The strategy of templates of claims.
#[derive(Debug)]
pub(crate) struct ResourceClaimTemplate;

/// The resource slice strategy.
#[derive(Debug)]
pub(crate) struct ResourceSlice;

/// The device taint strategy.
#[derive(Debug)]
pub(crate) struct DeviceTaintRule;

impl Strategy for DeviceClass {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), rows::age(object, now)])
    }
}

/// A request for exactly one kind of device asks for one of it, and so does each alternative.
fn default_devices(devices: &mut Value) {
    for request in list_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|exactly| exactly.is_object()) {
            default_amount(exactly);
        }
        list_mut(request, "firstAvailable").for_each(default_amount);
    }
}

fn default_amount(request: &mut Value) {
    crate::tree::default_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        crate::tree::default_nonzero(request, "count", 1);
    }
    for toleration in list_mut(request, "tolerations") {
        crate::tree::default_text(toleration, "operator", "Equal");
    }
}

impl Strategy for ResourceClaim {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_devices(enter(enter(object, "spec"), "devices"));
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        immutable(at(new, "spec"), at(old, "spec"), &Path::new("spec"), errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let status = at(object, "status");
        let deleted = has(at(object, "metadata"), "deletionTimestamp");
        let allocated = has(status, "allocation");
        let states = [
            (deleted, "deleted"),
            (!allocated && !deleted, "pending"),
            (allocated, "allocated"),
            (allocated && !list(status, "reservedFor").is_empty(), "reserved"),
        ];
        let shown: Vec<&str> = states.into_iter().filter(|(is, _)| *is).map(|(_, state)| state).collect();
        Some(vec![rows::name(object), json!(shown.join(",")), rows::age(object, now)])
    }
}

impl Strategy for ResourceClaimTemplate {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_devices(enter(enter(enter(object, "spec"), "spec"), "devices"));
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        immutable(at(new, "spec"), at(old, "spec"), &Path::new("spec"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), rows::age(object, now)])
    }
}

impl Strategy for ResourceSlice {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.driver", "spec.nodeName"]
    }

    fn indexed_field(&self) -> Option<&'static str> {
        Some("spec.nodeName")
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        Some(vec![
            rows::name(object),
            json!(text(spec, "nodeName")),
            json!(text(spec, "driver")),
            json!(text(at(spec, "pool"), "name")),
            rows::age(object, now),
        ])
    }
}

impl Strategy for DeviceTaintRule {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, request: &Request<'_>) {
        let now = api::time::seconds(request.now);
        crate::tree::default_to(enter(enter(object, "spec"), "taint"), "timeAdded", now);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, request: &Request<'_>) {
        keep_status(new, old);
        let was = at(at(old, "spec"), "taint");
        let taint = enter(enter(new, "spec"), "taint");
        if !same_at(taint, was, "effect") && same_at(taint, was, "timeAdded") {
            put(taint, "timeAdded", api::time::seconds(request.now));
        }
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let taint = at(at(object, "spec"), "taint");
        let added = if has(taint, "timeAdded") { age::since(text(taint, "timeAdded"), now) } else { String::new() };
        Some(vec![
            rows::name(object),
            json!(text(taint, "key")),
            json!(text(taint, "value")),
            json!(text(taint, "effect")),
            json!(added),
            rows::age(object, now),
        ])
    }
}
