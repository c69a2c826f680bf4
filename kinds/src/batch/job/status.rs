//! Validation of a job's status: a finished job stays finished, and its counters only grow.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use super::indexes;
use crate::tree::{at, has, int, list, opt_int, opt_text, same_at, text};
use crate::workload::optional_non_negative;

/// Whether a condition holds.
pub(super) fn condition(status: &Value, kind: &str) -> bool {
    let found = list(status, "conditions").iter().find(|c| text(c, "type") == kind);
    found.is_some_and(|condition| text(condition, "status") == "True")
}

fn finished(status: &Value) -> bool {
    condition(status, "Complete") || condition(status, "Failed")
}

/// Validates a status update.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (status, before, path) = (at(new, "status"), at(old, "status"), Path::new("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        optional_non_negative(status, field, &path, errors);
    }
    conditions(new, old, &path.child("conditions"), errors);
    finished_job(status, before, &path, errors);
    index_sets(new, status, before, &path, errors);
    let ready = int(status, "ready");
    if ready > int(status, "active") {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
    let spec = at(new, "spec");
    let elastic = text(spec, "completionMode") == "Indexed" && same_fields(spec, "completions", "parallelism");
    for (field, detail) in
        [("failed", "cannot decrease the failed counter"), ("succeeded", "cannot decrease the succeeded counter")]
    {
        let now = int(status, field);
        if now < int(before, field) && !(elastic && field == "succeeded") {
            errors.invalid(&path.child(field), now, detail);
        }
    }
}

fn same_fields(spec: &Value, a: &str, b: &str) -> bool {
    at(spec, a) == at(spec, b)
}

/// An `Invalid value` that shows none.
fn refuse(refused: bool, path: &Path<'_>, detail: &str, errors: &mut FieldErrors) {
    if refused {
        errors.push(ErrorKind::Invalid, path, format!("Invalid value: {detail}"));
    }
}

fn conditions(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (now, before) = (at(new, "status"), at(old, "status"));
    let is = |kind: &str| condition(now, kind);
    let (complete, failed) = (is("Complete"), is("Failed"));
    let (target, met) = (is("FailureTarget"), is("SuccessCriteriaMet"));
    let pairs = [
        (complete && failed, "cannot set Complete=True and Failed=true conditions"),
        (complete && target, "cannot set Complete=True and FailureTarget=true conditions"),
        (failed && !target, "cannot set Failed=True condition without the FailureTarget=true condition"),
        (complete && !met, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"),
        (met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    ];
    for (refused, detail) in pairs {
        refuse(refused, path, detail, errors);
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let disabled = condition(before, kind) && !is(kind);
        refuse(disabled, path, &format!("cannot disable the terminal {kind}=True condition"), errors);
    }
    let disabled = condition(before, "SuccessCriteriaMet") && !met;
    refuse(disabled, path, "cannot disable the SuccessCriteriaMet=True condition", errors);
}

fn finished_job(status: &Value, before: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let complete = condition(status, "Complete");
    let completion = opt_text(status, "completionTime");
    let at_completion = path.child("completionTime");
    match (complete, completion) {
        (false, Some(time)) => {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&at_completion, time, detail);
        }
        (true, None) => errors.required(&at_completion, "completionTime is required for Complete jobs"),
        _ => {}
    }
    if let (Some(start), Some(end)) = (opt_text(status, "startTime"), completion)
        && end < start
    {
        errors.invalid(&at_completion, end, "must be equal to or after `startTime`");
    }
    if let Some(time) = completion.filter(|_| has(before, "completionTime"))
        && !same_at(status, before, "completionTime")
    {
        errors.invalid(&at_completion, time, "field is immutable");
    }
    if !finished(status) {
        return;
    }
    for (field, detail) in [
        ("active", "active>0 is invalid for finished job"),
        ("terminating", "terminating>0 is invalid for finished job"),
    ] {
        let count = int(status, field);
        if count > 0 {
            errors.invalid(&path.child(field), count, detail);
        }
    }
    if !has(status, "startTime") {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
}

fn index_sets(new: &Value, status: &Value, before: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let spec = at(new, "spec");
    let completions = opt_int(spec, "completions");
    for field in ["completedIndexes", "failedIndexes"] {
        let Some(set) = opt_text(status, field).filter(|_| !same_at(status, before, field)) else {
            continue;
        };
        let path = path.child(field);
        if let Some(Err(problem)) = completions.map(|completions| indexes::count(set, completions)) {
            errors.invalid(&path, set, &format!("error parsing {field}: {problem}"));
        }
        if field == "completedIndexes" && !set.is_empty() && text(spec, "completionMode") != "Indexed" {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.invalid(&path, set, detail);
        }
        if field == "failedIndexes" && !has(spec, "backoffLimitPerIndex") {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.invalid(&path, set, detail);
        }
    }
}
