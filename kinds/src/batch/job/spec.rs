//! Validation of a job's specification and of what may change in it.

use api::Value;
use api::field::{FieldErrors, Path};
use serde_json::json;

use super::{failure_policy, indexes, status};
use crate::core::pod_spec::not_supported_unsorted;
use crate::names;
use crate::object_meta::{immutable, label_selector, non_negative};
use crate::shown;
use crate::tree::{at, enter, flag, has, list, list_mut, opt_int, opt_text, put, remove, same, some, text};
use crate::workload::{self, Selection, optional_non_negative};

const MANAGER_MAX: usize = 63;
const PARALLEL_MAX: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_LIMIT: i64 = 10_000;
const RULES_MAX: usize = 20;
const INDEXED: &str = "requires indexed completion mode";

/// Validates a job's own specification.
pub(super) fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    template_spec(spec, &path, errors);
    match some(spec, "selector") {
        None => errors.required(&path.child("selector"), ""),
        Some(selector) => label_selector(selector, &path.child("selector"), errors),
    }
    if workload::selection(spec) == Selection::Mismatch {
        workload::mismatch(at(spec, "template"), &path.child("template"), errors);
    }
}

/// Validates what jobs and templates of jobs share.
pub(in crate::batch) fn template_spec(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const COUNTS: [&str; 7] = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in COUNTS {
        optional_non_negative(spec, field, path, errors);
    }
    if let Some(manager) = opt_text(spec, "managedBy") {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    completion_mode(spec, path, errors);
    if let Some(policy) = some(spec, "podFailurePolicy") {
        failure_policy::validate(spec, policy, &path.child("podFailurePolicy"), errors);
    }
    success_policy(spec, &path.child("successPolicy"), errors);
    replacement_policy(spec, &path.child("podReplacementPolicy"), errors);
    let template = at(spec, "template");
    workload::template(template, &path.child("template"), errors);
    restart_policy(spec, template, &path.child("template.spec.restartPolicy"), errors);
    // Declarative rules come last upstream.
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.required(&path.child("backoffLimitPerIndex"), detail);
    }
}

/// A path of a controller that manages the job: `example.com/x`.
fn managed_by(manager: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    names::domain_prefixed_path(manager, path, errors);
    if manager.len() > MANAGER_MAX {
        errors.too_long(path, MANAGER_MAX);
    }
}

fn completion_mode(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match opt_text(spec, "completionMode") {
        None | Some("NonIndexed") => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(number) = opt_int(spec, field) {
                    errors.invalid(&path.child(field), number, INDEXED);
                }
            }
        }
        Some("Indexed") => indexed(spec, path, errors),
        Some(other) => {
            let path = path.child("completionMode");
            not_supported_unsorted(&path, other, &["NonIndexed", "Indexed"], errors);
        }
    }
}

fn indexed(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (completions, failed) = (opt_int(spec, "completions"), opt_int(spec, "maxFailedIndexes"));
    let parallelism = opt_int(spec, "parallelism").unwrap_or(0);
    let (at_parallel, at_failed) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if parallelism > PARALLEL_MAX {
        let detail = format!("must be less than or equal to {PARALLEL_MAX} when completion mode is Indexed");
        errors.invalid(&at_parallel, parallelism, &detail);
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        errors.invalid(&at_failed, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > PARALLEL_MAX) {
        let detail = format!("must be less than or equal to {PARALLEL_MAX}");
        errors.invalid(&at_failed, failed, &detail);
    }
    let many = completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || !has(spec, "backoffLimitPerIndex") {
        return;
    }
    let limit = format!(
        "must be less than or equal to {MANY_LIMIT} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
    );
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.required(&at_failed, &detail);
    }
    if parallelism > MANY_LIMIT {
        errors.invalid(&at_parallel, parallelism, &limit);
    }
    if let Some(failed) = failed.filter(|failed| *failed > MANY_LIMIT) {
        errors.invalid(&at_failed, failed, &limit);
    }
}

fn success_policy(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(policy) = some(spec, "successPolicy") else {
        return;
    };
    let rules = list(policy, "rules");
    if text(spec, "completionMode") != "Indexed" {
        let fields = [("SucceededIndexes", "succeededIndexes"), ("SucceededCount", "succeededCount")];
        let all = shown::each(rules, |rule| shown::internal(rule, &fields));
        shown::invalid(path, &format!("{{\"Rules\":{all}}}"), INDEXED, errors);
        return;
    }
    let path = path.child("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let completions = opt_int(spec, "completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    let (wanted, count) = (opt_text(rule, "succeededIndexes"), opt_int(rule, "succeededCount"));
    if wanted.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, detail);
    }
    let mut total = None;
    if let Some(wanted) = wanted {
        let path = path.child("succeededIndexes");
        match indexes::count(wanted, completions) {
            Ok(count) => total = Some(count),
            Err(problem) => {
                total = Some(0);
                let detail = format!("error parsing succeededIndexes: {problem}");
                errors.invalid(&path, wanted, &detail);
            }
        }
    }
    let Some(count) = count else {
        return;
    };
    let path = path.child("succeededCount");
    non_negative(count, &path, errors);
    if count > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&path, count, &detail);
    }
    if let Some(total) = total.filter(|total| count > *total) {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&path, count, &detail);
    }
}

fn replacement_policy(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(policy) = opt_text(spec, "podReplacementPolicy") else {
        return;
    };
    let allowed: &[&str] = if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !allowed.contains(&policy) {
        errors.not_supported(path, policy, allowed);
    }
}

fn restart_policy(spec: &Value, template: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(at(template, "spec"), "restartPolicy") {
        "Always" | "" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has(spec, "podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(path, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => not_supported_unsorted(path, other, &["OnFailure", "Never"], errors),
    }
}

/// Validates a change against the stored job.
pub(super) fn validate_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, old_spec, path) = (at(new, "spec"), at(old, "spec"), Path::new("spec"));
    completions(spec, old_spec, &path.child("completions"), errors);
    workload::immutable_selector(spec, old_spec, &path, errors);
    template_stays(new, old, &path, errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(at(spec, field), at(old_spec, field), &path.child(field), errors);
    }
}

fn completions(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (now, before) = (at(spec, "completions"), at(old, "completions"));
    if text(spec, "completionMode") != "Indexed" {
        immutable(now, before, path, errors);
    } else if now != before && !now.is_null() && now != at(spec, "parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(path, now.clone(), detail);
    }
}

/// The template is fixed, but for where its pods may run and what they get while the job is suspended.
fn template_stays(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let old_spec = at(old, "spec");
    let (template, before) = (at(at(new, "spec"), "template"), at(old_spec, "template"));
    let status = at(old, "status");
    let idle = !has(status, "startTime") || status::condition(status, "Suspended");
    let mutable = flag(old_spec, "suspend") && idle && opt_int(status, "active").unwrap_or(0) == 0;
    if !mutable {
        immutable(template, before, &path.child("template"), errors);
        return;
    }
    let mut allowed = before.clone();
    follow(&mut allowed, template);
    let (pod, allowed) = (at(template, "spec"), at(&allowed, "spec"));
    if !same(pod, allowed) {
        let detail = crate::object_meta::IMMUTABLE;
        errors.invalid(&path.child("template.spec"), pod.clone(), detail);
    }
}

/// Takes over from the new template what a suspended job may change.
fn follow(allowed: &mut Value, template: &Value) {
    let pod = enter(allowed, "spec");
    let new_pod = at(template, "spec");
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        match some(new_pod, field) {
            Some(value) => put(pod, field, value.clone()),
            None => {
                remove(pod, field);
            }
        }
    }
    let affinity = at(at(new_pod, "affinity"), "nodeAffinity").clone();
    put(enter(pod, "affinity"), "nodeAffinity", affinity);
    for field in ["containers", "initContainers"] {
        for (container, new) in list_mut(pod, field).zip(list(new_pod, field)) {
            if text(container, "name") == text(new, "name") {
                put(container, "resources", some(new, "resources").cloned().unwrap_or_else(|| json!({})));
            }
        }
    }
}
