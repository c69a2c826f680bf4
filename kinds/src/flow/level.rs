//! Priority levels: how many requests of a kind run at once.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::flow::schema::conditions;
use crate::rows;
use crate::strategy::{Generation, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, default_nonzero, default_to, enter, enter_some, has, int, opt_int, put, same, some, text};

/// The priority level strategy.
#[derive(Debug)]
pub(crate) struct PriorityLevel;

const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that shuffle sharding can use.
const ENTROPY_MAX: i64 = 60;
const SHARES: &str = "nominalConcurrencyShares";

impl Strategy for PriorityLevel {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        if let Some(exempt) = enter_some(spec, "exempt") {
            default_to(exempt, SHARES, 0);
            default_to(exempt, "lendablePercent", 0);
        }
        let Some(limited) = enter_some(spec, "limited") else {
            return;
        };
        default_to(limited, SHARES, 30);
        default_to(limited, "lendablePercent", 0);
        let queuing = enter_some(limited, "limitResponse").and_then(|response| enter_some(response, "queuing"));
        if let Some(queuing) = queuing {
            default_nonzero(queuing, "handSize", 8);
            default_nonzero(queuing, "queues", 64);
            default_nonzero(queuing, "queueLengthLimit", 50);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        if api::meta::annotation(object, PRESERVE_ZERO).is_some() {
            let path = Path::new("metadata");
            errors.forbidden(&path.child("annotations"), &format!("annotation '{PRESERVE_ZERO}' is forbidden"));
        }
        let (name, level, path) = (api::meta::name(object), at(object, "spec"), Path::new("spec"));
        spec(name, level, &path, errors);
        mandatory(name, level, &path, errors);
        conditions(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, _old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
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
        conditions(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let limited = some(spec, "limited");
        let queuing = limited.and_then(|limited| some(at(limited, "limitResponse"), "queuing"));
        let number = |holder: Option<&Value>, field: &str| match holder {
            Some(holder) => json!(int(holder, field)),
            None => json!(rows::NONE),
        };
        Some(vec![
            rows::name(object),
            json!(text(spec, "type")),
            number(limited, SHARES),
            number(queuing, "queues"),
            number(queuing, "handSize"),
            number(queuing, "queueLengthLimit"),
            rows::age(object, now),
        ])
    }
}

fn mandatory(name: &str, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match name {
        "exempt" if text(spec, "type") != "Exempt" || has(spec, "limited") => {
            let detail = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value";
            errors.invalid(path, spec.clone(), detail);
        }
        "catch-all" => {
            let limited = json!({SHARES: 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
            if !same(spec, &json!({"type": "Limited", "limited": limited})) {
                errors.invalid(path, spec.clone(), "spec of 'catch-all' must equal the fixed value");
            }
        }
        _ => {}
    }
}

fn spec(name: &str, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(spec, "type");
    if (name == "exempt") != (kind == "Exempt") {
        errors.invalid(&path.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (exempt, limited) = (some(spec, "exempt"), some(spec, "limited"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                errors.forbidden(&path.child("limited"), "");
            }
            if let Some(exempt) = exempt {
                shares(exempt, &path.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                errors.forbidden(&path.child("exempt"), "");
            }
            match limited {
                Some(limited) => self::limited(limited, &path.child("limited"), errors),
                None => errors.required(&path.child("limited"), ""),
            }
        }
        "" => errors.required(&path.child("type"), ""),
        _ => errors.not_supported(&path.child("type"), kind, &["Exempt", "Limited"]),
    }
}

fn shares(level: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(shares) = opt_int(level, SHARES).filter(|shares| *shares < 0) {
        errors.invalid(&path.child(SHARES), shares, "must be a non-negative integer");
    }
    lendable(level, path, errors);
}

fn lendable(level: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(percent) = opt_int(level, "lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let count = int(limited, SHARES);
    if count < 0 {
        errors.invalid(&path.child(SHARES), count, "must be a non-negative integer");
    }
    response(at(limited, "limitResponse"), &path.child("limitResponse"), errors);
    lendable(limited, path, errors);
    if let Some(percent) = opt_int(limited, "borrowingLimitPercent").filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
}

fn response(response: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_queuing = path.child("queuing");
    match (text(response, "type"), some(response, "queuing")) {
        ("Reject", Some(_)) => {
            errors.forbidden(&at_queuing, "");
        }
        ("Queue", None) => {
            errors.required(&at_queuing, "");
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &at_queuing, errors),
        ("Reject", None) => {}
        ("", _) => errors.required(&path.child("type"), ""),
        (kind, _) => errors.not_supported(&path.child("type"), kind, &["Queue", "Reject"]),
    }
}

fn queuing(queuing: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|field| int(queuing, field));
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        errors.invalid(&path.child("queues"), queues, &format!("must not be greater than {QUEUES_MAX}"));
    }
    let path = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&path, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&path, hand, &format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > ENTROPY_MAX {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {ENTROPY_MAX}"
        );
        errors.invalid(&path, hand, &detail);
    }
}

/// How many bits of a hash dealing a hand out of a deck needs.
fn entropy(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}
