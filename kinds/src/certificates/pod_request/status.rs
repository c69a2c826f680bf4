//! What a signer may say of a pod's request for a certificate: that it is issued, denied or failed, once.
//!
//! Whether the certificates themselves are right is the API server's to check.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};
use jiff::{SignedDuration, Timestamp};

use crate::conditions;
use crate::tree::{at, is_empty, list, opt_int, same, text};

const CHAIN_MAX: usize = 100 * 1024;
const SKEW: SignedDuration = SignedDuration::from_mins(5);
const SHORTEST: SignedDuration = SignedDuration::from_hours(1);
/// A refresh is that far from either end.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);
/// A request has one of them in the end.
const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

/// Validates a new status.
pub(super) fn validate(new: &Value, old: &Value, now: Timestamp, errors: &mut FieldErrors) {
    // Upstream goes on only with sound metadata, and only with sound conditions.
    if !errors.is_empty() {
        return;
    }
    outcome(list(at(new, "status"), "conditions"), errors);
    if !errors.is_empty() {
        return;
    }
    let (status, before, path) = (at(new, "status"), at(old, "status"), Path::new("status"));
    if OUTCOMES.iter().any(|outcome| is(before, outcome)) {
        unchanged(status, before, "immutable after PodCertificateRequest is issued, denied, or failed", errors);
    } else if is(status, "Denied") || is(status, "Failed") {
        let says_nothing = |value: &Value| is_empty(value) || value == "";
        if !fields(status).all(|(key, value)| key == "conditions" || says_nothing(value)) {
            let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            invalid(&path, detail, errors);
        }
    } else if is(status, "Issued") {
        issued(new, now, errors);
    } else {
        let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        unchanged(status, before, detail, errors);
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn is(status: &Value, outcome: &str) -> bool {
    let mut conditions = list(status, "conditions").iter();
    conditions.any(|condition| text(condition, "type") == outcome && text(condition, "status") == "True")
}

/// One of the known conditions at most, and nothing but them.
fn outcome(given: &[Value], errors: &mut FieldErrors) {
    let status = Path::new("status");
    let path = status.child("conditions");
    let mut known = 0;
    for (index, condition) in given.iter().enumerate() {
        // Upstream makes a field of the index here.
        let index = format!("[{index}]");
        let path = path.child(&index);
        let (kind, value) = (text(condition, "type"), text(condition, "status"));
        if !OUTCOMES.contains(&kind) {
            errors.not_supported(&path.child("type"), kind, &OUTCOMES);
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&path.child("type"), kind, detail);
        }
        if value != "True" {
            errors.not_supported(&path.child("status"), value, &["True"]);
        }
    }
    conditions::validate(given, &path, errors);
}

fn unchanged(status: &Value, before: &Value, detail: &str, errors: &mut FieldErrors) {
    if !same(status, before) {
        invalid(&Path::new("status"), detail, errors);
    }
}

/// Upstream does not show the value.
fn invalid(path: &Path<'_>, detail: &str, errors: &mut FieldErrors) {
    errors.push(ErrorKind::Invalid, path, format!("Invalid value: {detail}"));
}

/// The times are those of the certificate; that they are is checked with it.
fn issued(object: &Value, now: Timestamp, errors: &mut FieldErrors) {
    let (status, path) = (at(object, "status"), Path::new("status"));
    if text(status, "certificateChain").len() > CHAIN_MAX {
        errors.too_long(&path.child("certificateChain"), CHAIN_MAX);
        return;
    }
    let mut times = [Timestamp::UNIX_EPOCH; 3];
    let consistent = "must be present and consistent with the issued certificate";
    let within = "must be present and in the range [notbefore+10min, notafter-10min]";
    let needed = [("notBefore", consistent), ("notAfter", consistent), ("beginRefreshAt", within)];
    for (time, (field, detail)) in times.iter_mut().zip(needed) {
        match text(status, field).parse() {
            Ok(given) => *time = given,
            Err(_) => errors.required(&path.child(field), detail),
        }
    }
    if !errors.is_empty() {
        return;
    }
    let [start, end, refresh] = times;
    let mut wrong =
        |field: &str, shown: &str, detail: &str| invalid(&path.child(field), &format!("{shown}: {detail}"), errors);
    let life = start.duration_until(end);
    let longest = opt_int(at(object, "spec"), "maxExpirationSeconds").unwrap_or_default();
    if now.duration_until(start).abs() >= SKEW {
        let detail = "must be set to within 5 minutes of kube-apiserver's current time";
        wrong("notBefore", &shown_time(start), detail);
    } else if life < SHORTEST {
        wrong("certificateChain", &shown_duration(life), "leaf certificate lifetime must be >= 1 hour");
    } else if life > SignedDuration::from_secs(longest) {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})");
        wrong("certificateChain", &shown_duration(life), &detail);
    } else if start.duration_until(refresh) < MARGIN {
        wrong("beginRefreshAt", &shown_time(refresh), "must be at least 10 minutes after status.notBefore");
    } else if refresh.duration_until(end) < MARGIN {
        wrong("beginRefreshAt", &shown_time(refresh), "must be at least 10 minutes before status.notAfter");
    }
}

/// As Go prints a time.
fn shown_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// As Go prints a duration of whole seconds.
fn shown_duration(duration: SignedDuration) -> String {
    let (sign, seconds) = (if duration.is_negative() { "-" } else { "" }, duration.as_secs().abs());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{sign}{seconds}s"),
        (0, minutes, seconds) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}
