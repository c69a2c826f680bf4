//! CSI drivers.

use std::collections::BTreeSet;

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::not_supported_unsorted;
use crate::object_meta::immutable;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{
    at, default_to, enter, flag, has, list, opt_flag, opt_int, opt_text, put, same_at, some, text, texts,
};

/// The CSI driver strategy.
#[derive(Debug)]
pub(crate) struct CsiDriver;

const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const LIFECYCLES: [&str; 2] = ["Persistent", "Ephemeral"];
const TOKEN_MIN: i64 = 600;
const TOKEN_MAX: i64 = 1 << 32;
const PERIOD_MIN: i64 = 10;
const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

impl Strategy for CsiDriver {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "attachRequired", true);
        default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        let off =
            ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount", "preventPodSchedulingIfMissing"];
        for field in off {
            default_to(spec, field, false);
        }
        if list(spec, "volumeLifecycleModes").is_empty() {
            put(spec, "volumeLifecycleModes", json!(["Persistent"]));
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        if !same_at(new, old, "spec") {
            let generation = meta::generation(old) + 1;
            meta::set(new, "generation", json!(generation));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(new, "spec"), errors);
        let path = Path::new("spec");
        for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let of = |object| at(at(object, "spec"), field);
            immutable(of(new), of(old), &path.child(shown), errors);
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = at(new, "spec");
        let changed = old.is_none_or(|old| !same_at(at(old, "spec"), spec, "tokenRequests"));
        let asks = !list(spec, "tokenRequests").is_empty() && !has(spec, "serviceAccountTokenInSecrets");
        if changed && asks { vec![TOKENS_IN_SECRETS.to_owned()] } else { Vec::new() }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let modes: Vec<&str> = texts(spec, "volumeLifecycleModes").collect();
        let audiences: Vec<&str> = list(spec, "tokenRequests").iter().map(|t| text(t, "audience")).collect();
        let audiences = if has(spec, "tokenRequests") { audiences.join(",") } else { rows::UNSET.to_owned() };
        Some(vec![
            rows::name(object),
            json!(opt_flag(spec, "attachRequired").unwrap_or(true)),
            json!(flag(spec, "podInfoOnMount")),
            json!(flag(spec, "storageCapacity")),
            json!(audiences),
            json!(flag(spec, "requiresRepublish")),
            json!(rows::or_none(&modes.join(","))),
            rows::age(object, now),
        ])
    }
}

fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if let Some(policy) = opt_text(spec, "fsGroupPolicy").filter(|p| !GROUP_POLICIES.contains(p)) {
        errors.not_supported(&path.child("fsGroupPolicy"), policy, &GROUP_POLICIES);
    }
    tokens(list(spec, "tokenRequests"), &path.child("tokenRequests"), errors);
    for mode in texts(spec, "volumeLifecycleModes").filter(|mode| !LIFECYCLES.contains(mode)) {
        not_supported_unsorted(&path.child("volumeLifecycleModes"), mode, &LIFECYCLES, errors);
    }
    if let Some(period) = opt_int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|p| *p < PERIOD_MIN) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.invalid(&path.child("nodeAllocatableUpdatePeriodSeconds"), period, detail);
    }
    let in_secrets = some(spec, "serviceAccountTokenInSecrets");
    if let Some(given) = in_secrets.filter(|_| list(spec, "tokenRequests").is_empty()) {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.child("serviceAccountTokenInSecrets"), given.clone(), detail);
    }
}

fn tokens(requests: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    let mut audiences = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let (path, audience) = (path.index(index), text(request, "audience"));
        if !audiences.insert(audience) {
            errors.duplicate(&path.child("audience"), audience);
            continue;
        }
        let at_seconds = path.child("expirationSeconds");
        match opt_int(request, "expirationSeconds") {
            Some(seconds) if seconds < TOKEN_MIN => {
                errors.invalid(&at_seconds, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > TOKEN_MAX => {
                errors.invalid(&at_seconds, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}
