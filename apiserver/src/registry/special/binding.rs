//! Binding: the scheduler's word on which node a pod runs.

use api::{GroupVersionKind, Reason, Status, Value, meta};
use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use kinds::tree::{at, enter, entries, has, put, remove, text};
use serde_json::json;

use super::{Action, success};
use crate::admission::Operation;
use crate::answer::Response;
use crate::negotiate::Format;
use crate::registry::call::Call;
use crate::registry::options::WriteOptions;
use crate::registry::write::{self, Admission};

/// `pods/binding` and `bindings`.
pub(super) struct Bind;

#[async_trait]
impl Action for Bind {
    async fn run(
        &self,
        call: &Call<'_>,
        body: &[u8],
        format: Format,
        options: &WriteOptions,
    ) -> Result<Response, Status> {
        let gvk = GroupVersionKind::new("", "v1", "Binding");
        let mut binding = write::decode(call, body, format, &gvk, options.field_validation)?;
        write::ensure_namespace(call, &mut binding)?;
        if call.path.subresource == "binding" && meta::name(&binding) != call.path.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let path = call.path_named(meta::name(&binding));
        let admission = Admission {
            path: &path,
            kind: "Binding",
            operation: Operation::Create,
            old: None,
            dry_run: options.dry_run,
        };
        let binding = write::mutate_part(call, &admission, binding).await?;
        check_target(&binding)?;
        let binding = write::admit(call, &admission, binding).await?;
        let now = call.context.now;
        call.modify(&path, options.dry_run, |pod| assign(pod, &binding, now)).await?;
        Ok(call.value(StatusCode::CREATED, &success(201)))
    }
}

fn check_target(binding: &Value) -> Result<(), Status> {
    let target = at(binding, "target");
    let mut errors = api::field::FieldErrors::new();
    let path = api::field::Path::new("target");
    if !matches!(text(target, "kind"), "" | "Node") {
        let found = text(target, "kind");
        let message = format!("Unsupported value: {found:?}: supported values: \"Node\", \"<empty>\"");
        errors.push(api::field::ErrorKind::NotSupported, &path.child("kind"), message);
    }
    if text(target, "name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let message = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
    Err(Status::new(Reason::Unknown(500), message))
}

/// Puts the pod on the node, once.
fn assign(pod: &mut Value, binding: &Value, now: Timestamp) -> Result<(), Status> {
    let name = meta::name(pod).to_owned();
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", &name, &why));
    let mismatch = |asked: &str, found: &str| !asked.is_empty() && asked != found;
    if mismatch(meta::uid(binding), meta::uid(pod)) {
        let (asked, found) = (meta::uid(binding), meta::uid(pod));
        return precondition(pod, &format!("UID in precondition: {asked}, UID in object meta: {found}"));
    }
    if mismatch(meta::resource_version(binding), meta::resource_version(pod)) {
        let (asked, found) = (meta::resource_version(binding), meta::resource_version(pod));
        let what = format!("ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {found}");
        return precondition(pod, &what);
    }
    if meta::is_terminating(pod) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = text(at(pod, "spec"), "nodeName");
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if has(at(pod, "spec"), "schedulingGates") {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    put(enter(pod, "spec"), "nodeName", text(at(binding, "target"), "name"));
    for map in ["annotations", "labels"] {
        for (key, value) in entries(at(binding, "metadata"), map) {
            put(enter(enter(pod, "metadata"), map), key, value.clone());
        }
    }
    let status = enter(pod, "status");
    remove(status, "nominatedNodeName");
    set_condition(status, &json!({ "type": "PodScheduled", "status": "True" }), now);
    Ok(())
}

fn precondition(pod: &Value, what: &str) -> Result<(), Status> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/pods/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what}"
    );
    Err(Status::conflict("", "pods", name, &why))
}

/// Sets a condition of a pod's status; its transition time moves when its status does.
pub(super) fn set_condition(status: &mut Value, condition: &Value, now: Timestamp) {
    let mut condition = condition.clone();
    put(&mut condition, "lastProbeTime", Value::Null);
    put(&mut condition, "lastTransitionTime", api::time::seconds(now));
    let list = kinds::tree::object_mut(status).entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let found = list.iter_mut().find(|own| text(own, "type") == text(&condition, "type"));
    match found {
        None => list.push(condition),
        Some(own) => {
            if text(own, "status") == text(&condition, "status") {
                put(&mut condition, "lastTransitionTime", at(own, "lastTransitionTime").clone());
            }
            *own = condition;
        }
    }
}
