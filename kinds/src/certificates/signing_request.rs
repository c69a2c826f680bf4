//! CertificateSigningRequests: who asks is the server's to say, who may approve and sign is separated by subresource.

use api::Value;
use api::field::{FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use super::signer_name;
use crate::age;
use crate::names::Complaints;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, enter, list, list_mut, opt_int, put, remove, same, text};

/// The signing request strategy.
#[derive(Debug)]
pub(crate) struct SigningRequest;

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECONDS: i64 = 600;
/// Conditions that are there, and true, or not there.
const TRUE_ONLY: [&str; 3] = ["Approved", "Denied", "Failed"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What a way of updating may change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Status,
    Approval,
}

impl Strategy for SigningRequest {
    /// Any name that the path can carry.
    fn check_name(&self, _name: &str, _prefix: bool) -> Complaints {
        Complaints::new()
    }

    fn prepare_create(&self, object: &mut Value, request: &Request<'_>) {
        let spec = enter(object, "spec");
        for field in ["username", "uid", "groups", "extra"] {
            remove(spec, field);
        }
        put(spec, "username", request.user);
        if !request.user_uid.is_empty() {
            put(spec, "uid", request.user_uid);
        }
        put(spec, "groups", json!(request.groups));
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, &Value::Null, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        put(new, "spec", at(old, "spec").clone());
        put(new, "status", at(old, "status").clone());
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate_change(new, old, Way::Plain, errors);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value, request: &Request<'_>) {
        put(new, "spec", at(old, "spec").clone());
        if subresource == "approval" {
            stamp(new, old, request.now);
            let conditions = at(at(new, "status"), "conditions").clone();
            put(new, "status", at(old, "status").clone());
            put(enter(new, "status"), "conditions", conditions);
            return;
        }
        for kind in ["Approved", "Denied"] {
            keep_conditions(new, old, kind);
        }
        stamp(new, old, request.now);
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        let way = if subresource == "approval" { Way::Approval } else { Way::Status };
        validate_change(new, old, way, errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let duration = opt_int(spec, "expirationSeconds").map_or_else(|| "<none>".to_owned(), age::human);
        Some(vec![
            rows::name(object),
            rows::age(object, now),
            json!(rows::or_none(text(spec, "signerName"))),
            json!(text(spec, "username")),
            json!(duration),
            json!(state(object)),
        ])
    }
}

fn conditions(object: &Value) -> &[Value] {
    list(at(object, "status"), "conditions")
}

fn of_kind<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions(object).iter().filter(|condition| text(condition, "type") == kind).collect()
}

/// The old conditions of a kind, in the places of the new ones; a difference in number is left for validation.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let kept: Vec<Value> = of_kind(old, kind).into_iter().cloned().collect();
    if kept.len() != of_kind(new, kind).len() {
        return;
    }
    let places = list_mut(enter(new, "status"), "conditions").filter(|condition| text(condition, "type") == kind);
    for (place, condition) in places.zip(kept) {
        *place = condition;
    }
}

/// Dates that were left out: now, or the date since when the condition is what it is.
fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    for condition in list_mut(enter(new, "status"), "conditions") {
        if text(condition, "lastUpdateTime").is_empty() {
            put(condition, "lastUpdateTime", now.as_str());
        }
        if text(condition, "lastTransitionTime").is_empty() {
            let before = conditions(old).iter().find(|it| {
                text(it, "type") == text(condition, "type") && text(it, "status") == text(condition, "status")
            });
            let since = before.map(|it| text(it, "lastTransitionTime")).filter(|since| !since.is_empty());
            put(condition, "lastTransitionTime", since.unwrap_or(&now));
        }
    }
}

/// What an old object already gets wrong is tolerated.
fn validate(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    if let Err(reason) = check_request(text(spec, "request")) {
        errors.invalid(&path.child("request"), at(spec, "request").clone(), reason);
    }
    if old.is_null() {
        usages(list(spec, "usages"), &path.child("usages"), errors);
    }
    let signer = text(spec, "signerName");
    if signer == LEGACY_SIGNER && text(at(old, "spec"), "signerName") != LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(&path.child("signerName"), signer, detail);
    } else {
        signer_name(signer, &path.child("signerName"), errors);
    }
    if let Some(seconds) = opt_int(spec, "expirationSeconds").filter(|s| *s < SHORTEST_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    validate_conditions(conditions(object), &Path::new("status").child("conditions"), errors);
    let certificate = text(at(object, "status"), "certificate");
    if certificate != text(at(old, "status"), "certificate")
        && let Err(reason) = check_certificate(certificate)
    {
        let path = Path::new("status");
        errors.invalid(&path.child("certificate"), "<certificate data>", &reason);
    }
}

/// The form only: the signature is checked by whoever signs.
fn check_request(base64: &str) -> Result<(), &'static str> {
    let wrong = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = STANDARD.decode(base64).map_err(|_| wrong)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong)?;
    let framed =
        text.contains("-----BEGIN CERTIFICATE REQUEST-----") && text.contains("-----END CERTIFICATE REQUEST-----");
    if framed { Ok(()) } else { Err(wrong) }
}

/// The form only, again: blocks of certificates and nothing else.
fn check_certificate(base64: &str) -> Result<(), String> {
    if base64.is_empty() {
        return Ok(());
    }
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    let pem = String::from_utf8_lossy(&bytes);
    let mut kinds = pem.split("-----BEGIN ").skip(1).filter_map(|block| Some(block.split_once("-----")?.0));
    match kinds.clone().find(|kind| *kind != "CERTIFICATE") {
        Some(kind) => Err(format!("only CERTIFICATE PEM blocks are allowed, found {kind:?}")),
        None if kinds.next().is_none() => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        None => Ok(()),
    }
}

fn usages(usages: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    if usages.is_empty() {
        errors.required(path, "");
    }
    for (index, usage) in usages.iter().enumerate() {
        if !USAGES.contains(&usage.as_str().unwrap_or_default()) {
            errors.not_supported(&path.index(index), usage.clone(), &USAGES);
        }
    }
    for (index, usage) in usages.iter().enumerate() {
        if usages[..index].contains(usage) {
            errors.duplicate(&path.index(index), usage.clone());
        }
    }
}

fn validate_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    for (index, condition) in conditions.iter().enumerate() {
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        let allowed: &[&str] = if TRUE_ONLY.contains(&kind) { &["True"] } else { &STATUSES };
        if kind.is_empty() {
            errors.required(&path.index(index).child("type"), "");
        }
        if status.is_empty() {
            errors.required(&path.index(index).child("status"), "");
        } else if !allowed.contains(&status) {
            errors.not_supported(&path.index(index).child("status"), status, allowed);
        }
        let before = |kind: &str| conditions[..index].iter().any(|it| text(it, "type") == kind);
        if (kind == "Approved" && before("Denied")) || (kind == "Denied" && before("Approved")) {
            errors.invalid(path, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if before(kind) {
            errors.duplicate(&path.index(index).child("type"), kind);
        }
    }
}

fn validate_change(new: &Value, old: &Value, way: Way, errors: &mut FieldErrors) {
    validate(new, old, errors);
    let status = Path::new("status");
    let path = status.child("conditions");
    for kind in TRUE_ONLY {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            errors.forbidden(&path, &format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| way != Way::Approval) {
        let (before, after) = (of_kind(old, kind), of_kind(new, kind));
        if after.len() > before.len() {
            errors.forbidden(&path, &format!("updates may not add a condition of type {kind:?}"));
        } else if after.len() == before.len() && !before.iter().zip(&after).all(|(a, b)| same(a, b)) {
            let diff = crate::diff::unified(&json!(before), &json!(after));
            errors.forbidden(&path, &format!("updates may not modify a condition of type {kind:?}\n{diff}"));
        }
    }
    let (before, after) = (text(at(old, "status"), "certificate"), text(at(new, "status"), "certificate"));
    let path = status.child("certificate");
    if before != after && way != Way::Status {
        errors.forbidden(&path, "updates may not set certificate content");
    } else if before != after && !before.is_empty() {
        errors.forbidden(&path, "updates may not modify existing certificate content");
    }
}

fn state(object: &Value) -> String {
    let has = |kind: &str| !of_kind(object, kind).is_empty();
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(at(object, "status"), "certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests;
