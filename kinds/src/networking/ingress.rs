//! Ingresses.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::ip;
use crate::names;
use crate::networking::backend;
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Generation, Request, Strategy, keep_status};
use crate::tree::{at, dig, enter, has, list, opt_text, put, some, text, texts};

/// The ingress strategy.
#[derive(Debug)]
pub(crate) struct Ingress;

const CLASS: &str = "kubernetes.io/ingress.class";
const HOSTS_SHOWN: usize = 3;

impl Strategy for Ingress {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        enter(object, "spec");
        put(object, "status", json!({"loadBalancer": {}}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, None, errors);
        let class = opt_text(at(object, "spec"), "ingressClassName");
        if let (Some(annotated), Some(class)) = (meta::annotation(object, CLASS), class)
            && annotated != class
        {
            let path = Path::new("annotations");
            errors.invalid(&path.child(CLASS), annotated, "must match `ingressClassName` when both are specified");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, Some(old), errors);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        load_balancer(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let classless = !has(at(new, "spec"), "ingressClassName");
        if old.is_none() && classless && meta::annotation(new, CLASS).is_some() {
            return vec![format!("annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead")];
        }
        Vec::new()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let ports = if list(spec, "tls").is_empty() { "80" } else { "80, 443" };
        Some(vec![
            rows::name(object),
            json!(opt_text(spec, "ingressClassName").unwrap_or(rows::NONE)),
            json!(hosts(list(spec, "rules"))),
            json!(rows::load_balancer(object).join(",")),
            json!(ports),
            rows::age(object, now),
        ])
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == HOSTS_SHOWN;
        let host = text(rule, "host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    let joined = shown.join(",");
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{joined} + {} more...", rules.len() - HOSTS_SHOWN),
        (false, false) => joined,
    }
}

fn validate(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let was = old.map_or(&Value::Null, |old| at(old, "spec"));
    let rules = list(spec, "rules");
    let default = some(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, at(spec, "rules").clone(), detail);
    }
    if let Some(default) = default {
        backend::validate(default, &path.child("defaultBackend"), errors);
    }
    let lenient = list(was, "rules").iter().any(is_bad_wildcard);
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, lenient, &path.child("rules").index(index), errors);
    }
    tls(spec, was, &path.child("tls"), errors);
    if let Some(class) = opt_text(spec, "ingressClassName") {
        invalid_each(&path.child("ingressClassName"), class, names::subdomain(class), errors);
    }
}

/// A rule for a wildcard host that an older server let pass.
fn is_bad_wildcard(rule: &Value) -> bool {
    let mut found = FieldErrors::new();
    if text(rule, "host").contains('*') {
        paths(rule, &Path::ROOT, &mut found);
    }
    !found.is_empty()
}

fn host_name(host: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let wildcard = host.contains('*');
    let complaints = if wildcard { names::wildcard_subdomain(host) } else { names::subdomain(host) };
    invalid_each(path, host, complaints, errors);
}

fn rule(rule: &Value, lenient: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let host = text(rule, "host");
    if !host.is_empty() {
        let path = path.child("host");
        if ip::parse(host).is_some() {
            errors.invalid(&path, host, "must be a DNS name, not an IP address");
        }
        host_name(host, &path, errors);
    }
    if !(lenient && host.contains('*')) {
        paths(rule, path, errors);
    }
}

fn paths(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(http) = some(rule, "http") else {
        return;
    };
    let (http_path, all) = (path.child("http"), list(http, "paths"));
    let path = http_path.child("paths");
    if all.is_empty() {
        errors.required(&path, "");
    }
    for (index, one) in all.iter().enumerate() {
        http_route(one, &path.index(index), errors);
    }
}

fn http_route(route: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const ENDS: [&str; 2] = ["/..", "/."];
    let Some(kind) = opt_text(route, "pathType") else {
        errors.required(&path.child("pathType"), "pathType must be specified");
        return;
    };
    let (at_path, matched) = (path.child("path"), text(route, "path"));
    let relative = !matched.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if relative {
                errors.invalid(&at_path, matched, "must be an absolute path");
            }
            for sequence in SEQUENCES.into_iter().filter(|s| matched.contains(s)) {
                errors.invalid(&at_path, matched, &format!("must not contain '{sequence}'"));
            }
            for end in ENDS.into_iter().filter(|e| matched.ends_with(e)) {
                errors.invalid(&at_path, matched, &format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" if relative && !matched.is_empty() => {
            errors.invalid(&at_path, matched, "must be an absolute path");
        }
        "ImplementationSpecific" => {}
        _ => errors.not_supported(&path.child("pathType"), kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend::validate(at(route, "backend"), &path.child("backend"), errors);
}

fn secret_complaints(tls: &Value) -> names::Complaints {
    match text(tls, "secretName") {
        "" => Vec::new(),
        name => names::subdomain(name),
    }
}

fn tls(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let lenient = list(old, "tls").iter().any(|tls| !secret_complaints(tls).is_empty());
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let path = path.index(index);
        for (place, host) in texts(tls, "hosts").enumerate() {
            host_name(host, &path.child("hosts").index(place), errors);
        }
        if !lenient {
            let name = text(tls, "secretName");
            invalid_each(&path.child("secretName"), name, secret_complaints(tls), errors);
        }
    }
}

fn load_balancer(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let entries = |object| list(dig(object, &["status", "loadBalancer"]), "ingress");
    let known: Vec<&str> = entries(old).iter().map(|entry| text(entry, "ip")).collect();
    let status = Path::new("status");
    let balancer = status.child("loadBalancer");
    for (index, entry) in entries(new).iter().enumerate() {
        let ingress = balancer.child("ingress");
        let path = ingress.index(index);
        let (ip, name) = (text(entry, "ip"), text(entry, "hostname"));
        if !ip.is_empty() {
            ip::validate_lenient(ip, &known, &path.child("ip"), errors);
        }
        if !name.is_empty() {
            let path = path.child("hostname");
            invalid_each(&path, name, names::subdomain(name), errors);
            if ip::parse(name).is_some() {
                errors.invalid(&path, name, "must be a DNS name, not an IP address");
            }
        }
    }
}
