//! Requests of pods for certificates.

mod possession;
mod status;
#[cfg(test)]
mod tests;

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use crate::certificates::signer_name;
use crate::names;
use crate::object_meta::{ANNOTATIONS_MAX, immutable, invalid_each};
use crate::rows;
use crate::strategy::{Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, default_to, enter, entries, list, opt_int, put, text};

/// The pod certificate request strategy.
#[derive(Debug)]
pub(crate) struct PodCertificateRequest;

const UID_MAX: usize = 128;
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 91 * 86_400;
const LONGEST_OF_OURS: i64 = 86_400;
/// What a key or a request for it may have, decoded.
const KEY_MAX: usize = 10 * 1024;

impl Strategy for PodCertificateRequest {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_to(enter(object, "spec"), "maxExpirationSeconds", 86_400);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), Path::new("spec"));
        let signer = text(spec, "signerName");
        signer_name(signer, &path.child("signerName"), errors);
        user_annotations(spec, &path, errors);
        for (name, uid) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
        {
            let (value, id) = (text(spec, name), text(spec, uid));
            invalid_each(&path.child(name), value, names::subdomain(value), errors);
            if id.is_empty() {
                errors.invalid(&path.child(uid), id, "must not be empty");
            }
            if id.len() > UID_MAX {
                errors.too_long(&path.child(uid), UID_MAX);
            }
        }
        let ours =
            signer.split('/').next().is_some_and(|host| host == "kubernetes.io" || host.ends_with(".kubernetes.io"));
        let longest = if ours { LONGEST_OF_OURS } else { LONGEST };
        let at_seconds = path.child("maxExpirationSeconds");
        match opt_int(spec, "maxExpirationSeconds") {
            None => errors.required(&at_seconds, "must be set"),
            Some(seconds) if !(SHORTEST..=longest).contains(&seconds) => {
                errors.invalid(&at_seconds, seconds, &format!("must be in the range [{SHORTEST}, {longest}]"));
            }
            Some(_) => {}
        }
        // Without a time, upstream looks no further.
        if opt_int(spec, "maxExpirationSeconds").is_some() {
            key(spec, &path, errors);
        }
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

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        status::validate(new, old, request.now, errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.podName", "spec.signerName"]
    }

    fn selects_namespace(&self) -> bool {
        false
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let conditions = list(at(object, "status"), "conditions").iter().map(|condition| text(condition, "type"));
        let state = conditions.rev().find(|kind| matches!(*kind, "Issued" | "Denied" | "Failed"));
        Some(vec![
            rows::name(object),
            json!(text(spec, "podName")),
            json!(text(spec, "serviceAccountName")),
            json!(text(spec, "nodeName")),
            json!(text(spec, "signerName")),
            json!(state.unwrap_or("Pending")),
            json!(rows::labels(spec, "unverifiedUserAnnotations")),
        ])
    }
}

/// The key comes in one of two forms, each with a proof that its owner has it.
fn key(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let given = |field: &&str| !text(spec, field).is_empty();
    let (stub, keys) = (["stubPKCS10Request"], ["pkixPublicKey", "proofOfPossession"]);
    let form: &[&str] = match (stub.iter().any(given), keys.iter().filter(|field| given(field)).count()) {
        (true, 0) => &stub,
        (false, 2) => &keys,
        _ => {
            let detail = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            errors.push(ErrorKind::Invalid, path, format!("Invalid value: {detail}"));
            return;
        }
    };
    // The schema has already seen that they decode.
    let is_long = |field: &&&str| STANDARD.decode(text(spec, field)).is_ok_and(|bytes| bytes.len() > KEY_MAX);
    if let Some(field) = form.iter().find(is_long) {
        return errors.too_long(&path.child(field), KEY_MAX);
    }
    if form.len() == 1 { possession::request(spec, path, errors) } else { possession::proof(spec, path, errors) }
}

/// What a pod's author asks of the signer, under names of the signer's.
fn user_annotations(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("unverifiedUserAnnotations");
    let mut size = 0;
    for (name, value) in entries(spec, "unverifiedUserAnnotations") {
        size += name.len() + value.as_str().map_or(0, str::len);
        let name = name.to_lowercase();
        let problems = names::label_key(&name);
        if name.is_empty() {
            errors.required(&path, "");
        } else if !problems.is_empty() {
            invalid_each(&path, &name, problems, errors);
        } else if !name.contains('/') {
            errors.invalid(&path, name, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(&path, ANNOTATIONS_MAX);
    }
}
