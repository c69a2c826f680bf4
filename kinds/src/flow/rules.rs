//! Which requests a flow schema matches.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, flag, has, list, some, text, texts};

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

/// Validates a rule: whose requests, and which.
pub(super) fn validate(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let subjects = list(rule, "subjects");
    let at_subjects = path.child("subjects");
    if subjects.is_empty() {
        errors.required(&at_subjects, "subjects must contain at least one value");
    }
    for (index, subject) in subjects.iter().enumerate() {
        self::subject(subject, &at_subjects.index(index), errors);
    }
    let (resources, others) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, detail);
    }
    for (index, resource) in resources.iter().enumerate() {
        self::resource(resource, &path.child("resourceRules").index(index), errors);
    }
    for (index, other) in others.iter().enumerate() {
        urls(other, &path.child("nonResourceRules").index(index), errors);
    }
}

fn subject(subject: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(subject, "kind");
    let Some((_, field)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        errors.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let at_subject = path.child(field);
    match some(subject, field) {
        None => errors.required(&at_subject, &format!("{field} is required when subject kind is '{kind}'")),
        Some(named) => subject_name(named, kind, &at_subject, errors),
    }
    // Upstream looks at a user before a service account and a group, whatever the kind.
    let order: [usize; 2] = match kind {
        "ServiceAccount" => [1, 2],
        "User" => [0, 2],
        _ => [0, 1],
    };
    for (other, field) in order.map(|index| SUBJECTS[index]) {
        if has(subject, field) {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.child(field), &detail);
        }
    }
}

fn subject_name(named: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(named, "name");
    let account = kind == "ServiceAccount";
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if account && name != "*" {
        invalid_each(&path.child("name"), name, names::subdomain(name), errors);
    }
    if account {
        match text(named, "namespace") {
            "" => errors.required(&path.child("namespace"), "must specify namespace for service account"),
            namespace => invalid_each(&path.child("namespace"), namespace, names::label(namespace), errors),
        }
    }
}

/// Complains about a list that is empty, or holds `*` and something else. True when it is neither, and has no `*`.
fn plain(rule: &Value, field: &str, words: (&str, &str), path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let (missing, others) = words;
    let all = list(rule, field);
    let path = path.child(field);
    if all.is_empty() {
        errors.required(&path, missing);
        return false;
    }
    let any = texts(rule, field).any(|value| value == "*");
    if any && all.len() > 1 {
        errors.invalid(&path, all, &format!("if '*' is present, must not specify other {others}"));
    }
    !any
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let words = ("verbs must contain at least one value", "verbs");
    if plain(rule, "verbs", words, path, errors) && !texts(rule, "verbs").all(|verb| VERBS.contains(&verb)) {
        let quoted: Vec<String> = VERBS.iter().map(|verb| format!("{verb:?}")).collect();
        let message = format!("Unsupported value: {}: supported values: {}", at(rule, "verbs"), quoted.join(", "));
        errors.push(ErrorKind::NotSupported, &path.child("verbs"), message);
    }
}

fn resource(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    verbs(rule, path, errors);
    let groups = ("resource rules must supply at least one api group", "api groups");
    plain(rule, "apiGroups", groups, path, errors);
    let resources = ("resource rules must supply at least one resource", "resources");
    plain(rule, "resources", resources, path, errors);
    let namespaces = ("resource rules that are not cluster scoped must supply at least one namespace", "namespaces");
    if list(rule, "namespaces").is_empty() && flag(rule, "clusterScope") {
        return;
    }
    if plain(rule, "namespaces", namespaces, path, errors) {
        let path = path.child("namespaces");
        for (index, namespace) in texts(rule, "namespaces").enumerate() {
            for complaint in names::label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {complaint}");
                errors.invalid(&path.index(index), namespace, &detail);
            }
        }
    }
}

fn urls(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    verbs(rule, path, errors);
    let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
    if plain(rule, "nonResourceURLs", words, path, errors) {
        let path = path.child("nonResourceURLs");
        for (index, url) in texts(rule, "nonResourceURLs").enumerate() {
            if let Some(complaint) = url_complaint(url) {
                errors.invalid(&path.index(index), url, complaint);
            }
        }
    }
}

fn url_complaint(url: &str) -> Option<&'static str> {
    let wildcards = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if wildcards > 1 || (wildcards == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}
