//! What extends the API: API services and custom resource definitions.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::names::{self, NameRule};
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Generation, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, default_text, default_to, enter, enter_some, flag, int, list, put, some, text, texts};

/// The strategy of API services.
#[derive(Debug)]
pub(crate) struct ApiService;

/// The strategy of custom resource definitions.
#[derive(Debug)]
pub(crate) struct CustomResourceDefinition;

const STATES: [&str; 3] = ["True", "False", "Unknown"];

impl Strategy for ApiService {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let service = enter_some(object, "spec").and_then(|spec| enter_some(spec, "service"));
        if let Some(service) = service {
            default_to(service, "port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value, request: &Request<'_>) {
        let local = some(at(object, "spec"), "service").is_none();
        let available = json!({"conditions": [{
            "type": "Available",
            "status": "True",
            "lastTransitionTime": api::time::seconds(request.now),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }]});
        put(object, "status", if local { available } else { json!({}) });
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        service(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        service(new, errors);
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
        let status = Path::new("status");
        let path = status.child("conditions");
        for (index, condition) in list(at(new, "status"), "conditions").iter().enumerate() {
            let state = text(condition, "status");
            if !STATES.contains(&state) {
                let path = path.index(index);
                crate::core::pod_spec::not_supported_unsorted(&path.child("status"), state, &STATES, errors);
            }
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let service = some(at(object, "spec"), "service")
            .map_or("Local".to_owned(), |service| format!("{}/{}", text(service, "namespace"), text(service, "name")));
        let mut conditions = list(at(object, "status"), "conditions").iter();
        let available = conditions.find(|condition| text(condition, "type") == "Available");
        let state = available.map_or("Unknown".to_owned(), |condition| {
            let (status, reason) = (text(condition, "status"), text(condition, "reason"));
            if status == "True" || reason.is_empty() { status.to_owned() } else { format!("{status} ({reason})") }
        });
        Some(vec![rows::name(object), json!(service), json!(state), rows::age(object, now)])
    }
}

fn service(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let (name, required) = (api::meta::name(object), format!("{version}.{group}"));
    if name != required && !name.is_empty() {
        let metadata = Path::new("metadata");
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.invalid(&metadata.child("name"), name, &detail);
    }
    if group.is_empty() && version != "v1" {
        errors.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        invalid_each(&path.child("group"), group, names::subdomain(group), errors);
    }
    invalid_each(&path.child("version"), version, names::dns1035(version), errors);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = int(spec, field);
        if !(1..=max).contains(&priority) {
            errors.invalid(&path.child(field), priority, &format!("must be positive and less than {max}"));
        }
    }
    backend(spec, &path, errors);
}

fn backend(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (bundle, insecure) = (text(spec, "caBundle"), flag(spec, "insecureSkipTLSVerify"));
    let at_insecure = path.child("insecureSkipTLSVerify");
    let Some(service) = some(spec, "service") else {
        if !bundle.is_empty() {
            let size = bundle.trim_end_matches('=').len() * 3 / 4;
            errors.invalid(
                &path.child("caBundle"),
                format!("{size} bytes"),
                "local APIServices may not have a caBundle",
            );
        }
        if insecure {
            errors.invalid(&at_insecure, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    let path = path.child("service");
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = int(service, "port");
    let complaints = names::port_number(port);
    if !complaints.is_empty() {
        errors.invalid(&path.child("port"), port, &format!("port is not valid: {}", complaints.join(", ")));
    }
    if insecure && !bundle.is_empty() {
        errors.invalid(&at_insecure, true, "may not be true if caBundle is present");
    }
}

impl Strategy for CustomResourceDefinition {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "conversion", json!({"strategy": "None"}));
        let webhook = enter_some(spec, "conversion").and_then(|conversion| enter_some(conversion, "webhook"));
        let client = webhook.and_then(|webhook| enter_some(webhook, "clientConfig"));
        if let Some(service) = client.and_then(|client| enter_some(client, "service")) {
            default_to(service, "port", 443);
        }
        let names = enter(spec, "names");
        let kind = text(names, "kind").to_owned();
        default_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            default_text(names, "listKind", &format!("{kind}List"));
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        let names = json!({"plural": "", "kind": ""});
        put(object, "status", json!({"conditions": null, "acceptedNames": names, "storedVersions": null}));
        note_stored(object);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let spec = at(object, "spec");
        let required = format!("{}.{}", text(at(spec, "names"), "plural"), text(spec, "group"));
        let name = api::meta::name(object);
        if name != required && !name.is_empty() {
            let metadata = Path::new("metadata");
            errors.invalid(&metadata.child("name"), name, "must be spec.names.plural+\".\"+spec.group");
        }
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
        note_stored(new);
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let served = list(spec, "versions").iter().filter(|version| flag(version, "served"));
        let label = |version: &Value| {
            let stored = if flag(version, "storage") { "(storage)" } else { "" };
            format!("{}{stored}", text(version, "name"))
        };
        let mut versions: Vec<String> = served.map(label).collect();
        versions.sort_unstable();
        let names = at(spec, "names");
        let short: Vec<&str> = texts(names, "shortNames").collect();
        let mut conditions = list(at(object, "status"), "conditions").iter();
        let established = conditions.any(|c| text(c, "type") == "Established" && text(c, "status") == "True");
        Some(vec![
            rows::name(object),
            json!(text(spec, "scope")),
            json!(versions.join(",")),
            json!(api::meta::text(object, "creationTimestamp")),
            json!(text(spec, "group")),
            json!(text(names, "kind")),
            json!(short.join(",")),
            json!(established),
        ])
    }
}

/// The version that objects are stored in has been used from now on.
fn note_stored(object: &mut Value) {
    let mut versions = list(at(object, "spec"), "versions").iter();
    let Some(stored) = versions.find(|version| flag(version, "storage")).map(|v| text(v, "name").to_owned()) else {
        return;
    };
    let status = enter(object, "status");
    let mut known: Vec<Value> = list(status, "storedVersions").to_vec();
    if !known.iter().any(|version| *version == stored) {
        known.push(json!(stored));
        put(status, "storedVersions", known);
    }
}
