//! Admission policies. Their expressions are compiled elsewhere.

use std::collections::BTreeSet;

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::admission::{refuse_static_name, rules, static_name_warning};
use crate::conditions;
use crate::names;
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Generation, MetadataCheck, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, default_to, enter, enter_some, has, list, opt_text, put, remove, some, text};

/// The strategy of admission policies.
#[derive(Debug)]
pub(crate) struct Policies {
    /// They change objects.
    pub(crate) mutating: bool,
}

const FAILURES: [&str; 2] = ["Fail", "Ignore"];
const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const ANNOTATIONS_MAX: usize = 20;

impl Strategy for Policies {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::AnyFinalizer
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "failurePolicy", "Fail");
        if let Some(constraints) = enter_some(spec, "matchConstraints") {
            rules::default_match(constraints);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        if self.mutating {
            remove(object, "status");
        } else {
            put(object, "status", json!({}));
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate(object, errors);
        refuse_static_name(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate(new, errors);
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
        let (status, path) = (at(new, "status"), Path::new("status"));
        let warnings = path.child("typeChecking.expressionWarnings");
        for (index, warning) in list(at(status, "typeChecking"), "expressionWarnings").iter().enumerate() {
            let path = warnings.index(index);
            for field in ["warning", "fieldRef"] {
                if text(warning, field).trim().is_empty() {
                    errors.required(&path.child(field), "");
                }
            }
        }
        conditions::validate(list(status, "conditions"), &path.child("conditions"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        static_name_warning(new, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let rules = if self.mutating { "mutations" } else { "validations" };
        let kind = some(spec, "paramKind")
            .map_or(rows::UNSET.to_owned(), |kind| format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")));
        Some(vec![rows::name(object), json!(list(spec, rules).len()), json!(kind), rows::age(object, now)])
    }
}

impl Policies {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), Path::new("spec"));
        match opt_text(spec, "failurePolicy") {
            None => errors.required(&path.child("failurePolicy"), ""),
            Some(policy) if !FAILURES.contains(&policy) => {
                errors.not_supported(&path.child("failurePolicy"), policy, &FAILURES);
            }
            Some(_) => {}
        }
        if let Some(kind) = some(spec, "paramKind") {
            rules::param_kind(kind, &path.child("paramKind"), errors);
        }
        let at_match = path.child("matchConstraints");
        match some(spec, "matchConstraints") {
            None => errors.required(&at_match, ""),
            Some(constraints) => {
                rules::match_resources(constraints, &at_match, errors);
                if list(constraints, "resourceRules").is_empty() {
                    errors.required(&at_match.child("resourceRules"), "");
                }
                if self.mutating {
                    rules::no_deletes(constraints, &at_match, errors);
                }
            }
        }
        rules::conditions(spec, &path, errors);
        variables(spec, &path.child("variables"), errors);
        if self.mutating {
            mutations(spec, &path, errors);
        } else {
            validations(object, spec, &path, errors);
        }
    }
}

fn variables(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        let path = path.index(index);
        let name = text(variable, "name");
        let identifier = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.trim().is_empty() {
            errors.required(&path.child("name"), "name is not specified");
        } else if !identifier {
            errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
        }
        if text(variable, "expression").trim().is_empty() {
            errors.required(&path.child("expression"), "expression is not specified");
        }
    }
}

fn mutations(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = path.child("mutations");
    if list(spec, "mutations").is_empty() {
        errors.required(&all, "mutations must contain at least one item");
    }
    for (index, mutation) in list(spec, "mutations").iter().enumerate() {
        let (path, kind) = (all.index(index), text(mutation, "patchType"));
        let (own, other) =
            if kind == "JSONPatch" { ("jsonPatch", "applyConfiguration") } else { ("applyConfiguration", "jsonPatch") };
        if kind.is_empty() {
            errors.required(&path.child("patchType"), "");
        } else if !PATCHES.contains(&kind) {
            errors.not_supported(&path.child("patchType"), kind, &PATCHES);
        } else {
            let path = path.child(own);
            match some(mutation, own) {
                None => errors.required(&path, &format!("must be specified when patchType is {kind}")),
                Some(patch) if text(patch, "expression").trim().is_empty() => {
                    errors.required(&path.child("expression"), "");
                }
                Some(_) => {}
            }
        }
        if PATCHES.contains(&kind) && has(mutation, other) {
            let detail = format!("must not be specified when patchType is {kind}");
            errors.invalid(&path.child(other), format!("{{{other}}}"), &detail);
        }
    }
    match opt_text(spec, "reinvocationPolicy") {
        None => errors.required(&path.child("reinvocationPolicy"), ""),
        Some(policy) if !REINVOCATIONS.contains(&policy) => {
            errors.not_supported(&path.child("reinvocationPolicy"), policy, &REINVOCATIONS);
        }
        Some(_) => {}
    }
}

fn validations(object: &Value, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const NOTHING: &str = "validations or auditAnnotations must contain at least one item";
    let (checks, notes) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    let (at_checks, at_notes) = (path.child("validations"), path.child("auditAnnotations"));
    if checks.is_empty() && notes.is_empty() {
        errors.required(&at_checks, NOTHING);
        errors.required(&at_notes, NOTHING);
        return;
    }
    for (index, check) in checks.iter().enumerate() {
        validation(check, &at_checks.index(index), errors);
    }
    if notes.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(&at_notes, notes, &detail);
    }
    let mut seen = BTreeSet::new();
    for (index, note) in notes.iter().enumerate() {
        let (path, key) = (at_notes.index(index), text(note, "key"));
        let name = format!("{}/{key}", meta::name(object));
        invalid_each(&path.child("key"), &name, names::label_key(&name), errors);
        if text(note, "valueExpression").trim().is_empty() {
            errors.required(&path.child("valueExpression"), "valueExpression is not specified");
        }
        if !seen.insert(key) {
            errors.duplicate(&path.child("key"), key);
        }
    }
}

fn validation(check: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let message = text(check, "message");
    if text(check, "expression").trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    }
    if has(check, "messageExpression") && text(check, "messageExpression").trim().is_empty() {
        let shown = text(check, "messageExpression");
        if !shown.is_empty() {
            errors.invalid(&path.child("messageExpression"), shown, "must be non-empty if specified");
        }
    }
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&path.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "must not contain line breaks");
    } else if message.is_empty() && text(check, "expression").contains(['\n', '\r']) {
        let detail = "message must be specified if expression contains line breaks";
        errors.required(&path.child("message"), detail);
    }
    if let Some(reason) = opt_text(check, "reason").filter(|reason| !REASONS.contains(reason)) {
        errors.not_supported(&path.child("reason"), reason, &REASONS);
    }
}
