//! Kinds of `resource.k8s.io`: what is known of devices, and who has claimed them.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::core::pod_spec::scheduling::node_selector;
use crate::core::pod_spec::sources::driver_name;
use crate::names;
use crate::object_meta::{immutable, immutable_unshown, invalid_each, label_key};
use crate::rows;
use crate::strategy::{Generation, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, enter, has, int, list, list_mut, opt_text, put, same_at, some, text};

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

/// What a taint does.
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

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
        immutable_unshown(at(new, "spec"), at(old, "spec"), &Path::new("spec"), errors);
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

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        slice(at(object, "spec"), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old, path) = (at(new, "spec"), at(old, "spec"), Path::new("spec"));
        slice(new, &path, errors);
        immutable(at(at(new, "pool"), "name"), at(at(old, "pool"), "name"), &path.child("pool").child("name"), errors);
        for field in ["driver", "nodeName"] {
            immutable(at(new, field), at(old, field), &path.child(field), errors);
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.driver", "spec.nodeName", "spec.pool.name"]
    }

    fn unknown_field(&self, field: &str) -> String {
        format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}")
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
    fn allow_unconditional_update(&self) -> bool {
        false
    }

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

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        taint_rule(at(object, "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        taint_rule(at(new, "spec"), at(old, "spec"), errors);
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

/// A slice's driver, pool and nodes; what its devices are is the driver's matter.
fn slice(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    driver_name(text(spec, "driver"), &path.child("driver"), errors);
    let (pool, at_pool) = (at(spec, "pool"), path.child("pool"));
    pool_name(text(pool, "name"), &at_pool.child("name"), errors);
    let (count, generation) = (int(pool, "resourceSliceCount"), int(pool, "generation"));
    if count <= 0 {
        errors.invalid(&at_pool.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if generation < 0 {
        errors.invalid(&at_pool.child("generation"), generation, "must be greater than or equal to zero");
    }
    slice_nodes(spec, path, errors);
}

/// Exactly one of the ways to say which nodes reach the devices.
fn slice_nodes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut ways = Vec::new();
    match opt_text(spec, "nodeName") {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", "must be either unset or set to a non-empty string"),
        Some(name) => {
            ways.push("`nodeName`");
            invalid_each(&path.child("nodeName"), name, names::subdomain(name), errors);
        }
    }
    if let Some(selector) = some(spec, "nodeSelector") {
        ways.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        node_selector(selector, &path, errors);
        let terms = list(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            errors.invalid(&path.child("nodeSelectorTerms"), terms.to_vec(), detail);
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match at(spec, field).as_bool() {
            Some(true) => ways.push(shown),
            Some(false) => errors.invalid(&path.child(field), false, "must be either unset or set to true"),
            None => {}
        }
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.len() {
        0 => errors.required(path, detail),
        1 => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", ways.join(", ")), &detail);
        }
    }
}

fn pool_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    for part in name.split('/') {
        invalid_each(path, part, names::subdomain(part), errors);
    }
}

/// A rule's selector and taint. `old` is null on create; an effect that stays is not looked at again.
fn taint_rule(spec: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let (selector, at_selector) = (at(spec, "deviceSelector"), path.child("deviceSelector"));
    if let Some(driver) = opt_text(selector, "driver") {
        driver_name(driver, &at_selector.child("driver"), errors);
    }
    if let Some(pool) = opt_text(selector, "pool") {
        pool_name(pool, &at_selector.child("pool"), errors);
    }
    if let Some(device) = opt_text(selector, "device") {
        invalid_each(&at_selector.child("device"), device, names::label(device), errors);
    }
    let (taint, path) = (at(spec, "taint"), path.child("taint"));
    label_key(text(taint, "key"), &path.child("key"), errors);
    let value = text(taint, "value");
    if !value.is_empty() {
        invalid_each(&path.child("value"), value, names::label_value(value), errors);
    }
    if !old.is_null() && same_at(taint, at(old, "taint"), "effect") {
        return;
    }
    match text(taint, "effect") {
        "" => errors.required(&path.child("effect"), ""),
        known if EFFECTS.contains(&known) => {}
        other => errors.not_supported(&path.child("effect"), other, &EFFECTS),
    }
}
