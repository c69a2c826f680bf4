//! Network policies.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::not_supported_unsorted;
use crate::ip;
use crate::names;
use crate::object_meta::{invalid_each, label_selector};
use crate::rows;
use crate::strategy::{Generation, Request, Strategy};
use crate::tree::{at, default_to, enter, list, list_mut, opt_int, opt_text, put, some, text, texts};

/// The network policy strategy.
#[derive(Debug)]
pub(crate) struct NetworkPolicy;

/// The two directions: the rules' field and the peers' field.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];
const TYPES: [&str; 2] = ["Ingress", "Egress"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

impl Strategy for NetworkPolicy {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "podSelector", json!({}));
        for (direction, _) in DIRECTIONS {
            for port in list_mut(spec, direction).flat_map(|rule| list_mut(rule, "ports")) {
                default_to(port, "protocol", "TCP");
            }
        }
        if list(spec, "policyTypes").is_empty() {
            let both = !list(spec, "egress").is_empty();
            put(spec, "policyTypes", if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), &[], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let known: Vec<&str> = blocks(at(old, "spec")).collect();
        validate(at(new, "spec"), &known, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let selector = rows::selector(at(at(object, "spec"), "podSelector"));
        Some(vec![rows::name(object), json!(selector), rows::age(object, now)])
    }
}

/// Every CIDR block that a policy names.
fn blocks(spec: &Value) -> impl Iterator<Item = &str> {
    let rules = DIRECTIONS
        .into_iter()
        .flat_map(|(direction, peers)| list(spec, direction).iter().flat_map(move |rule| list(rule, peers)));
    rules.filter_map(|peer| some(peer, "ipBlock")).flat_map(|block| {
        let whole = std::iter::once(text(block, "cidr"));
        whole.chain(texts(block, "except"))
    })
}

fn validate(spec: &Value, known: &[&str], errors: &mut FieldErrors) {
    let path = Path::new("spec");
    label_selector(at(spec, "podSelector"), &path.child("podSelector"), errors);
    for (direction, peers) in DIRECTIONS {
        for (index, rule) in list(spec, direction).iter().enumerate() {
            let rules = path.child(direction);
            let path = rules.index(index);
            for (place, port) in list(rule, "ports").iter().enumerate() {
                self::port(port, &path.child("ports").index(place), errors);
            }
            for (place, peer) in list(rule, peers).iter().enumerate() {
                self::peer(peer, known, &path.child(peers).index(place), errors);
            }
        }
    }
    let at_types = path.child("policyTypes");
    let types = list(spec, "policyTypes");
    if types.len() > TYPES.len() {
        errors.invalid(&at_types, types, "may not specify more than two policyTypes");
        return;
    }
    for (index, kind) in texts(spec, "policyTypes").enumerate().filter(|(_, kind)| !TYPES.contains(kind)) {
        not_supported_unsorted(&at_types.index(index), kind, &TYPES, errors);
    }
}

fn port(port: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(protocol) = opt_text(port, "protocol").filter(|p| !PROTOCOLS.contains(p)) {
        not_supported_unsorted(&path.child("protocol"), protocol, &PROTOCOLS, errors);
    }
    let (at_port, at_end) = (path.child("port"), path.child("endPort"));
    let end = opt_int(port, "endPort");
    let Some(given) = some(port, "port") else {
        if let Some(end) = end {
            errors.invalid(&at_end, end, "may not be specified when `port` is not specified");
        }
        return;
    };
    if let Some(name) = given.as_str() {
        if let Some(end) = end {
            errors.invalid(&at_end, end, "may not be specified when `port` is non-numeric");
        }
        invalid_each(&at_port, name, names::port_name(name), errors);
        return;
    }
    let number = given.as_i64().unwrap_or(0);
    for complaint in names::port_number(number) {
        errors.invalid(&at_port, number, &complaint);
    }
    if let Some(end) = end {
        if end < number {
            errors.invalid(&at_end, end, "must be greater than or equal to `port`");
        }
        for complaint in names::port_number(end) {
            errors.invalid(&at_end, end, &complaint);
        }
    }
}

fn peer(peer: &Value, known: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = some(peer, field) {
            peers += 1;
            label_selector(selector, &path.child(field), errors);
        }
    }
    let block = some(peer, "ipBlock");
    if let Some(block) = block {
        ip_block(block, known, &path.child("ipBlock"), errors);
    }
    match (peers, block) {
        (0, None) => errors.required(path, "must specify a peer"),
        (1.., Some(_)) => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(block: &Value, known: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let (cidr, at_cidr) = (text(block, "cidr"), path.child("cidr"));
    if cidr.is_empty() {
        errors.required(&at_cidr, "");
        return;
    }
    ip::validate_cidr_lenient(cidr, known, &at_cidr, errors);
    let Some(whole) = ip::parse_cidr(cidr) else {
        return;
    };
    for (index, except) in texts(block, "except").enumerate() {
        let excepts = path.child("except");
        let path = excepts.index(index);
        ip::validate_cidr_lenient(except, known, &path, errors);
        if ip::parse_cidr(except).is_some_and(|part| !ip::is_within(part, whole)) {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}
