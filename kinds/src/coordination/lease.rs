//! Leases and lease candidates.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::names::{self, Complaints};
use crate::object_meta::{immutable, invalid_each};
use crate::rows;
use crate::strategy::{MetadataCheck, Request, Strategy};
use crate::tree::{at, enter_some, opt_int, remove, text};

/// The lease strategy.
#[derive(Debug)]
pub(crate) struct Lease;

/// The lease candidate strategy.
#[derive(Debug)]
pub(crate) struct LeaseCandidate;

const STRATEGY: &str = "OldestEmulationVersion";

impl Strategy for Lease {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::AnyFinalizer
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        drop_coordinated(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value, _request: &Request<'_>) {
        drop_coordinated(new);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(object, "spec"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(new, "spec"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let holder = text(at(object, "spec"), "holderIdentity");
        Some(vec![rows::name(object), json!(holder), rows::age(object, now)])
    }
}

impl Strategy for LeaseCandidate {
    fn check_name(&self, name: &str, _prefix: bool) -> Complaints {
        names::config_key(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        candidate(at(object, "spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old) = (at(new, "spec"), at(old, "spec"));
        candidate(new, errors);
        let path = Path::new("spec");
        immutable(at(new, "leaseName"), at(old, "leaseName"), &path.child("leaseName"), errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.leaseName"]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        Some(vec![
            rows::name(object),
            json!(text(spec, "leaseName")),
            json!(text(spec, "binaryVersion")),
            json!(text(spec, "emulationVersion")),
            rows::age(object, now),
        ])
    }
}

/// Coordinated leader election is off by default, and its fields are not stored then.
fn drop_coordinated(object: &mut Value) {
    if let Some(spec) = enter_some(object, "spec") {
        remove(spec, "strategy");
        remove(spec, "preferredHolder");
    }
}

fn spec(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if let Some(seconds) = opt_int(spec, "leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    if let Some(count) = opt_int(spec, "leaseTransitions").filter(|c| *c < 0) {
        let detail = "must be greater than or equal to 0";
        errors.invalid(&path.child("leaseTransitions"), count, detail);
    }
}

fn strategy(word: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("strategy");
    if word.contains('/') {
        invalid_each(&path, word, names::label_key(word), errors);
    } else if word != STRATEGY {
        errors.not_supported(&path, word, &[STRATEGY]);
    }
}

/// `major.minor.patch`, as numbers.
fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.split(['-', '+']).next().unwrap_or("");
    let parts: Vec<u64> = core.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn candidate(spec: &Value, errors: &mut FieldErrors) {
    const MALFORMED: &str = "must be a valid semantic version";
    let path = Path::new("spec");
    let (binary, emulation) = (text(spec, "binaryVersion"), text(spec, "emulationVersion"));
    if text(spec, "leaseName").is_empty() {
        errors.required(&path.child("leaseName"), "");
    }
    if !emulation.is_empty() && version(emulation).is_none() {
        errors.invalid(&path.child("emulationVersion"), emulation, MALFORMED);
    }
    if binary.is_empty() {
        errors.required(&path.child("binaryVersion"), "");
    } else if version(binary).is_none() {
        errors.invalid(&path.child("binaryVersion"), binary, MALFORMED);
    }
    if let (Some(b), Some(e)) = (version(binary), version(emulation))
        && b < e
    {
        let detail = "must be greater than or equal to `emulationVersion`";
        errors.invalid(&path.child("binaryVersion"), binary, detail);
    }
    match text(spec, "strategy") {
        "" => errors.required(&path.child("strategy"), ""),
        word => {
            if word == STRATEGY && emulation.is_empty() {
                let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
                errors.required(&path.child("emulationVersion"), detail);
            }
            strategy(word, &path.child("strategy"), errors);
        }
    }
}
