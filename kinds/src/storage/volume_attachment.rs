//! Volume attachments.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::persistent_volume;
use crate::names;
use crate::object_meta::{immutable_unshown, invalid_each};
use crate::rows;
use crate::strategy::{Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, enter, entries, flag, opt_int, opt_text, put, some, text};

/// The volume attachment strategy.
#[derive(Debug)]
pub(crate) struct VolumeAttachment;

const METADATA_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;

impl Strategy for VolumeAttachment {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let source = enter(enter(object, "spec"), "source");
        if let Some(inline) = source.get_mut("inlineVolumeSpec").filter(|v| v.is_object()) {
            persistent_volume::default_spec(inline);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"attached": false}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, errors);
        immutable_unshown(at(new, "spec"), at(old, "spec"), &Path::new("spec"), errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        validate(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        Some(vec![
            rows::name(object),
            json!(text(spec, "attacher")),
            json!(text(at(spec, "source"), "persistentVolumeName")),
            json!(text(spec, "nodeName")),
            json!(flag(at(object, "status"), "attached")),
            rows::age(object, now),
        ])
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    attacher(text(spec, "attacher"), &path.child("attacher"), errors);
    source(at(spec, "source"), &path.child("source"), errors);
    let node = text(spec, "nodeName");
    invalid_each(&path.child("nodeName"), node, names::subdomain(node), errors);
    let (status, path) = (at(object, "status"), Path::new("status"));
    let size: usize =
        entries(status, "attachmentMetadata").map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > METADATA_MAX {
        errors.too_long(&path.child("attachmentMetadata"), METADATA_MAX);
    }
    for field in ["attachError", "detachError"] {
        failure(at(status, field), &path.child(field), errors);
    }
    if let Some(name) = opt_text(at(spec, "source"), "persistentVolumeName") {
        invalid_each(&Path::new("spec.source.persistentVolumeName"), name, names::subdomain(name), errors);
    }
}

fn attacher(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > names::LABEL_MAX {
        errors.too_long(path, names::LABEL_MAX);
    }
    invalid_each(path, name, names::subdomain_caseless(name), errors);
}

fn source(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (some(source, "inlineVolumeSpec"), opt_text(source, "persistentVolumeName")) {
        (None, None) => errors.required(path, ONE),
        (Some(_), Some(_)) => errors.forbidden(path, ONE),
        (None, Some("")) => {
            errors.required(&path.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        (None, Some(_)) => {}
        (Some(inline), None) => persistent_volume::inline(inline, &path.child("inlineVolumeSpec"), errors),
    }
}

fn failure(failure: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(failure, "message").len() > MESSAGE_MAX {
        errors.too_long(&path.child("message"), MESSAGE_MAX);
    }
    if let Some(code) = opt_int(failure, "errorCode").filter(|code| *code < 0) {
        let detail = names::range_message(0, i64::from(i32::MAX));
        errors.invalid(&path.child("errorCode"), code, &detail);
    }
}
