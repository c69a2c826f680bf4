//! Pods: defaults of a pod beyond its specification's, quality of service, graceful deletion, status.

mod annotations;
mod qos;
mod row;
mod status;
#[cfg(test)]
mod tests;
mod update;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use super::pod_spec::{self, Meta, containers, defaults, each_container};
use crate::object_meta::non_negative;
use crate::strategy::{Generation, Grace, Request, Strategy};
use crate::tree::{at, default_to, enter, enter_some, flag, has, int, keep, list, list_mut, opt_int, put, some, text};

pub(crate) use annotations::template as template_annotations;

/// The pod strategy.
#[derive(Debug)]
pub(crate) struct Pod;

const SELECTABLE: [&str; 8] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

/// The first of all addresses counts where there is one.
const SELECTED: [&str; 9] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

impl Strategy for Pod {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, pod: &mut Value, _request: &Request<'_>) {
        default_pod(pod);
    }

    fn prepare_create(&self, pod: &mut Value, request: &Request<'_>) {
        put(pod, "status", json!({"phase": "Pending"}));
        gated_condition(pod, request.now);
        merge_label_keys(pod);
        pod_level_requests(pod);
        let class = qos::class(pod);
        put(enter(pod, "status"), "qosClass", class);
    }

    fn validate_create(&self, pod: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(pod, errors);
        let path = Path::new("spec");
        let spec = at(pod, "spec");
        if !list(spec, "ephemeralContainers").is_empty() {
            errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.forbidden(&path.child("nodeName"), detail);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep(new, old, "status");
        let old_resources = at(at(old, "spec"), "resources");
        if !old_resources.is_null() {
            default_to(enter(new, "spec"), "resources", old_resources.clone());
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        update::validate(new, old, errors);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value, _: &Request<'_>) {
        match subresource {
            "ephemeralcontainers" => update::keep_all_but_ephemeral(new, old),
            "resize" => update::keep_all_but_resources(new, old),
            _ => status::prepare(new, old),
        }
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        match subresource {
            "ephemeralcontainers" => update::validate_ephemeral(new, old, errors),
            "resize" => update::validate_resize(new, old, errors),
            _ => status::validate(new, old, errors),
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        super::pod_warnings::of_pod(new)
    }

    fn graceful_delete(&self, pod: &Value, asked: Option<i64>) -> Option<Grace> {
        let spec = at(pod, "spec");
        let own = int(spec, "terminationGracePeriodSeconds");
        let done = matches!(text(at(pod, "status"), "phase"), "Failed" | "Succeeded");
        let seconds = match asked.unwrap_or(own) {
            _ if done || text(spec, "nodeName").is_empty() => 0,
            negative if negative < 0 => 1,
            seconds => seconds,
        };
        Some(Grace { seconds })
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &SELECTABLE
    }

    fn selected_paths(&self) -> &'static [&'static str] {
        &SELECTED
    }

    fn indexed_field(&self) -> Option<&'static str> {
        Some("spec.nodeName")
    }

    fn selectable_field(&self, pod: &Value, field: &str) -> String {
        let (spec, status) = (at(pod, "spec"), at(pod, "status"));
        match field {
            "spec.hostNetwork" => flag(spec, "hostNetwork").to_string(),
            "status.podIP" => first_ip(status).to_owned(),
            _ => match field.split_once('.') {
                Some(("spec", name)) => text(spec, name).to_owned(),
                Some(("status", name)) => text(status, name).to_owned(),
                _ => String::new(),
            },
        }
    }

    fn row(&self, pod: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row::cells(pod, now))
    }

    fn row_conditions(&self, pod: &Value) -> Vec<Value> {
        row::conditions(pod)
    }
}

fn first_ip(status: &Value) -> &str {
    list(status, "podIPs").first().map_or_else(|| text(status, "podIP"), |ip| text(ip, "ip"))
}

/// Defaults of a pod, its specification included. The kubelet calls it for static pods.
pub fn default_pod(pod: &mut Value) {
    let spec = enter(pod, "spec");
    if opt_int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        put(spec, "terminationGracePeriodSeconds", 1);
    }
    defaults::requests_from_limits(spec);
    default_to(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        defaults::host_ports(spec);
    }
    defaults::spec(spec);
    if let Some(status) = enter_some(pod, "status") {
        default_status(status);
    }
}

fn default_status(status: &mut Value) {
    let single = text(status, "podIP").to_owned();
    let first = list(status, "podIPs").first().map(|ip| text(ip, "ip").to_owned());
    match (single.as_str(), first) {
        ("", Some(first)) => put(status, "podIP", first),
        ("", None) => {}
        (ip, Some(first)) if ip == first => {}
        (ip, _) => put(status, "podIPs", json!([{"ip": ip}])),
    }
    for statuses in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for container in list_mut(status, statuses) {
            crate::resource_name::default_list(container.get_mut("allocatedResources"));
            if let Some(resources) = enter_some(container, "resources") {
                defaults::resources(resources);
            }
        }
    }
}

/// Validates a pod's own rules on top of its specification: on create and on update.
pub(super) fn validate(pod: &Value, errors: &mut FieldErrors) {
    let (at_metadata, path) = (Path::new("metadata"), Path::new("spec"));
    annotations::validate(pod, &at_metadata.child("annotations"), errors);
    let spec = at(pod, "spec");
    pod_spec::validate(spec, Meta::Pod(pod), &path, errors);
    if text(spec, "serviceAccountName").is_empty() {
        tokens_need_account(spec, &path, errors);
    }
    if let Some(seconds) = opt_int(spec, "terminationGracePeriodSeconds") {
        non_negative(seconds, &path.child("terminationGracePeriodSeconds"), errors);
    }
    for field in ["containers", "initContainers"] {
        let path = path.child(field);
        for (i, container) in list(spec, field).iter().enumerate() {
            containers::image_is_trimmed(container, &path.index(i), errors);
        }
    }
}

fn tokens_need_account(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_volumes = path.child("volumes");
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let at_volume = at_volumes.index(i);
        let at_projected = at_volume.child("projected");
        let at_sources = at_projected.child("sources");
        for (j, source) in list(at(volume, "projected"), "sources").iter().enumerate() {
            if has(source, "serviceAccountToken") {
                let path = at_sources.index(j);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&path.child("serviceAccountToken"), detail);
            }
        }
    }
}

/// A pod that is born with gates says why it is not scheduled.
fn gated_condition(pod: &mut Value, now: Timestamp) {
    if list(at(pod, "spec"), "schedulingGates").is_empty() {
        return;
    }
    let condition = json!([{
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null,
        "lastTransitionTime": api::time::seconds(now),
    }]);
    put(enter(pod, "status"), "conditions", condition);
}

/// Writes `matchLabelKeys` into the selectors, so that the scheduler reads the selector only.
fn merge_label_keys(pod: &mut Value) {
    let labels = at(at(pod, "metadata"), "labels").clone();
    let spec = enter(pod, "spec");
    for constraint in list_mut(spec, "topologySpreadConstraints") {
        merge_into_selector(constraint, "matchLabelKeys", "In", &labels);
    }
    let Some(affinity) = enter_some(spec, "affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = enter_some(affinity, kind) else {
            continue;
        };
        for term in list_mut(terms, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_term(term, &labels);
        }
        for weighted in list_mut(terms, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = enter_some(weighted, "podAffinityTerm") {
                merge_term(term, &labels);
            }
        }
    }
}

fn merge_term(term: &mut Value, labels: &Value) {
    merge_into_selector(term, "matchLabelKeys", "In", labels);
    merge_into_selector(term, "mismatchLabelKeys", "NotIn", labels);
}

fn merge_into_selector(holder: &mut Value, field: &str, operator: &str, labels: &Value) {
    let added: Vec<Value> = crate::tree::texts(holder, field)
        .filter_map(|key| {
            let value = labels.get(key)?;
            Some(json!({"key": key, "operator": operator, "values": [value]}))
        })
        .collect();
    if added.is_empty() {
        return;
    }
    let Some(selector) = enter_some(holder, "labelSelector") else {
        return;
    };
    let mut expressions = list(selector, "matchExpressions").to_vec();
    expressions.extend(added);
    put(selector, "matchExpressions", expressions);
}

/// Requests of the pod as a whole, when it has limits of its own: what its containers ask, or the limit.
fn pod_level_requests(pod: &mut Value) {
    let spec = enter(pod, "spec");
    let Some(own) = some(spec, "resources").cloned() else {
        return;
    };
    let limits = at(&own, "limits");
    if limits.as_object().is_none_or(|limits| limits.is_empty()) {
        return;
    }
    let mut requests = at(&own, "requests").clone();
    for (name, sum) in super::pod_spec::total(spec, "requests") {
        let supported = crate::resource_name::is_pod_level(name);
        if supported && crate::resource_name::may_overcommit(name) {
            default_to(&mut requests, name, sum.to_string());
        }
    }
    for (name, limit) in crate::tree::entries(&own, "limits") {
        if crate::resource_name::is_pod_level(name) {
            default_to(&mut requests, name, limit.clone());
        }
    }
    if !crate::tree::is_empty(&requests) {
        put(enter(spec, "resources"), "requests", requests);
    }
}

/// Whether any container asks for the name.
pub(super) fn has_container(spec: &Value, name: &str) -> bool {
    let mut found = false;
    each_container(spec, &Path::ROOT, |container, _| found |= text(container, "name") == name);
    found
}
