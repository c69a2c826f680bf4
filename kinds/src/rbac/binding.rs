//! RoleBindings and ClusterRoleBindings.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use super::GROUP;
use crate::core::pod_spec::not_supported_unsorted;
use crate::names;
use crate::object_meta::{IMMUTABLE, invalid_each};
use crate::rows;
use crate::shown;
use crate::strategy::{NameRule, Request, Strategy};
use crate::tree::{at, default_text, enter, list, list_mut, same_at, text};

/// Both kinds of bindings; they differ in what roles and subjects they may name.
#[derive(Debug)]
pub(crate) struct Binding {
    is_namespaced: bool,
}

impl Binding {
    /// A binding in a namespace.
    pub(crate) const ROLE: Self = Self { is_namespaced: true };
    /// A binding at cluster scope.
    pub(crate) const CLUSTER_ROLE: Self = Self { is_namespaced: false };
}

impl Strategy for Binding {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default(object);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, self.is_namespaced, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, self.is_namespaced, errors);
        role_ref_stays(new, old, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row(object, now))
    }
}

fn default(object: &mut Value) {
    default_text(enter(object, "roleRef"), "apiGroup", GROUP);
    for subject in list_mut(object, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    let (role, path) = (at(object, "roleRef"), Path::new("roleRef"));
    let group = text(role, "apiGroup");
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        not_supported_unsorted(&path.child("kind"), kind, kinds, errors);
    }
    let name = text(role, "name");
    let complaints = names::path_segment(name, false);
    invalid_each(&path.child("name"), name, complaints, errors);
    let (subjects, at_subjects) = (list(object, "subjects"), Path::new("subjects"));
    for (i, subject) in subjects.iter().enumerate() {
        self::subject(subject, namespaced, &at_subjects.index(i), errors);
    }
    // Declarative rules come last upstream, in the order of the type's fields.
    for (i, _) in subjects.iter().enumerate().filter(|(_, s)| text(s, "name").is_empty()) {
        errors.required(&at_subjects.index(i).child("name"), "");
    }
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                let complaints = NameRule::Dns1123Subdomain.check(name, false);
                invalid_each(&path.child("name"), name, complaints, errors);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            not_supported_unsorted(&path.child("kind"), other, &known, errors);
        }
    }
}

fn role_ref_stays(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if !same_at(new, old, "roleRef") {
        let fields = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];
        let role = shown::internal(at(new, "roleRef"), &fields);
        shown::invalid(&Path::new("roleRef"), &role, IMMUTABLE, errors);
    }
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = at(object, "roleRef");
    let subjects = |kind: &str| {
        let all: Vec<String> = list(object, "subjects")
            .iter()
            .filter(|subject| text(subject, "kind") == kind)
            .map(|subject| match text(subject, "namespace") {
                "" => text(subject, "name").to_owned(),
                namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(subject, "name")),
                _ => text(subject, "name").to_owned(),
            })
            .collect();
        json!(all.join(", "))
    };
    vec![
        rows::name(object),
        json!(format!("{}/{}", text(role, "kind"), text(role, "name"))),
        rows::age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
