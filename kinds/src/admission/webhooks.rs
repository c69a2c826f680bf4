//! Webhook configurations.

use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::admission::{refuse_static_name, rules, static_name_warning};
use crate::names;
use crate::object_meta::{invalid_each, label_selector};
use crate::rows;
use crate::strategy::{Generation, MetadataCheck, Request, Strategy};
use crate::tree::{at, default_to, enter_some, int, list, list_mut, opt_int, opt_text, some, text, texts};

/// The strategy of webhook configurations.
#[derive(Debug)]
pub(crate) struct Webhooks {
    /// They change objects.
    pub(crate) mutating: bool,
}

const FAILURES: [&str; 2] = ["Fail", "Ignore"];
const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];
const NO_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const ALL_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// What stored objects of older servers may keep doing.
#[derive(Clone, Copy)]
struct Strict {
    effects: bool,
    versions: bool,
    names: bool,
}

impl Strategy for Webhooks {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::AnyFinalizer
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn generation(&self) -> Generation {
        Generation::Content
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        for hook in list_mut(object, "webhooks") {
            default_to(hook, "failurePolicy", "Fail");
            rules::default_selectors(hook);
            default_to(hook, "timeoutSeconds", 10);
            if self.mutating {
                default_to(hook, "reinvocationPolicy", "Never");
            }
            rules::default_scopes(hook, "rules");
            let service = enter_some(hook, "clientConfig").and_then(|config| enter_some(config, "service"));
            if let Some(service) = service {
                default_to(service, "port", 443);
            }
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate(object, Strict { effects: true, versions: true, names: true }, errors);
        refuse_static_name(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let hooks = list(old, "webhooks");
        let names: BTreeSet<&str> = hooks.iter().map(|hook| text(hook, "name")).collect();
        let strict = Strict {
            effects: hooks.iter().all(|hook| NO_EFFECTS.contains(&text(hook, "sideEffects"))),
            versions: hooks.iter().all(|hook| texts(hook, "admissionReviewVersions").any(|v| REVIEWS.contains(&v))),
            names: names.len() == hooks.len(),
        };
        self.validate(new, strict, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        static_name_warning(new, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(list(object, "webhooks").len()), rows::age(object, now)])
    }
}

impl Webhooks {
    fn validate(&self, object: &Value, strict: Strict, errors: &mut FieldErrors) {
        let all = Path::new("webhooks");
        let mut seen = BTreeSet::new();
        for (index, hook) in list(object, "webhooks").iter().enumerate() {
            let path = all.index(index);
            self.hook(hook, strict, &path, errors);
            review_versions(hook, strict, &path.child("admissionReviewVersions"), errors);
            let name = text(hook, "name");
            if strict.names && !name.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
    }

    fn hook(&self, hook: &Value, strict: Strict, path: &Path<'_>, errors: &mut FieldErrors) {
        names::fully_qualified_name(text(hook, "name"), &path.child("name"), errors);
        for (index, rule) in list(hook, "rules").iter().enumerate() {
            rules::rule(rule, &path.child("rules").index(index), errors);
        }
        one_of(hook, "failurePolicy", &FAILURES, path, errors);
        one_of(hook, "matchPolicy", &rules::MATCH_POLICIES, path, errors);
        let effects: &[&str] = if strict.effects { &NO_EFFECTS } else { &ALL_EFFECTS };
        if opt_text(hook, "sideEffects").is_none() {
            let detail = format!("must specify one of {}", effects.join(", "));
            errors.required(&path.child("sideEffects"), &detail);
        }
        one_of(hook, "sideEffects", effects, path, errors);
        if let Some(seconds) = opt_int(hook, "timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
        }
        for field in ["namespaceSelector", "objectSelector"] {
            label_selector(at(hook, field), &path.child(field), errors);
        }
        if self.mutating {
            one_of(hook, "reinvocationPolicy", &REINVOCATIONS, path, errors);
        }
        client(at(hook, "clientConfig"), &path.child("clientConfig"), errors);
        rules::conditions(hook, path, errors);
    }
}

fn one_of(hook: &Value, field: &str, allowed: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(value) = opt_text(hook, field).filter(|value| !allowed.contains(value)) {
        errors.not_supported(&path.child(field), value, allowed);
    }
}

fn review_versions(hook: &Value, strict: Strict, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = list(hook, "admissionReviewVersions");
    if all.is_empty() {
        errors.required(path, &format!("must specify one of {}", REVIEWS.join(", ")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in texts(hook, "admissionReviewVersions").enumerate() {
        if !seen.insert(version) {
            errors.invalid(&path.index(index), version, "duplicate version");
            continue;
        }
        invalid_each(&path.index(index), version, names::dns1035(version), errors);
    }
    if strict.versions && !seen.iter().any(|version| REVIEWS.contains(version)) {
        errors.invalid(path, all, &format!("must include at least one of {}", REVIEWS.join(", ")));
    }
}

fn client(config: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match (opt_text(config, "url"), some(config, "service")) {
        (Some(url), None) => self::url(url, &path.child("url"), errors),
        (None, Some(service)) => self::service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

/// Validates a webhook's URL: `https://host[/path]` and nothing more.
pub(crate) fn url(url: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => (scheme, rest),
        Some(("", _)) => {
            let detail = format!("url must be a valid URL: parse {url:?}: missing protocol scheme{FORM}");
            errors.required(path, &detail);
            return;
        }
        _ => ("", rest),
    };
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if !scheme.eq_ignore_ascii_case("https") {
        errors.invalid(path, scheme.to_ascii_lowercase(), &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

/// Validates the service that a webhook runs in. Upstream passes name and namespace the wrong way round.
fn service(service: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(service, "namespace").is_empty() {
        errors.required(&path.child("name"), "");
    }
    if text(service, "name").is_empty() {
        errors.required(&path.child("namespace"), "");
    }
    let port = int(service, "port");
    let complaints = names::port_number(port);
    if !complaints.is_empty() {
        errors.invalid(&path.child("port"), port, &format!("port is not valid: {}", complaints.join(", ")));
    }
    let (given, path) = (text(service, "path"), path.child("path"));
    if matches!(given, "" | "/") {
        return;
    }
    if given == "//" {
        errors.invalid(&path, given, "segment[0] may not be empty");
        return;
    }
    if !given.starts_with('/') {
        errors.invalid(&path, given, "must start with a '/'");
    }
    let mut steps: String = given.chars().skip(1).collect();
    if steps.ends_with('/') {
        steps.pop();
    }
    for (index, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, given, &format!("segment[{index}] may not be empty"));
            continue;
        }
        for complaint in names::subdomain(step) {
            errors.invalid(&path, given, &format!("segment[{index}]: {complaint}"));
        }
    }
}
