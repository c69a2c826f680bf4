//! EndpointSlices.

use std::net::IpAddr;

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::endpoints::usable_ip;
use crate::ip;
use crate::names::{self, NameRule};
use crate::object_meta::{IMMUTABLE, invalid_each, labels};
use crate::rows;
use crate::strategy::{Generation, Request, Strategy};
use crate::tree::{at, default_to, entry_count, list, list_mut, opt_int, opt_text, remove, same_at, some, text, texts};

/// The endpoint slice strategy.
#[derive(Debug)]
pub(crate) struct EndpointSlice;

const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;
const SHOWN: usize = 3;

impl Strategy for EndpointSlice {
    fn generation(&self) -> Generation {
        Generation::Content
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        for port in list_mut(object, "ports") {
            default_to(port, "name", "");
            default_to(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        drop_topology(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        if !same_at(at(new, "metadata"), at(old, "metadata"), "labels") {
            meta::set(new, "generation", json!(meta::generation(old) + 1));
        }
        if !same_at(new, old, "endpoints") {
            drop_topology(new);
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        ports(object, errors);
        endpoints(object, errors);
        declared(object, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        ports(new, errors);
        if !same_at(new, old, "endpoints") {
            endpoints(new, errors);
        }
        declared(new, Some(old), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        if text(new, "addressType") != "FQDN" {
            return Vec::new();
        }
        vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let ports: Vec<String> = list(object, "ports").iter().map(shown_port).collect();
        let addresses: Vec<String> =
            list(object, "endpoints").iter().flat_map(|e| texts(e, "addresses")).map(str::to_owned).collect();
        let shown = |mut all: Vec<String>| {
            let count = all.len();
            all.truncate(SHOWN);
            json!(rows::or_unset(&rows::with_more(&all, count, SHOWN)))
        };
        Some(vec![
            rows::name(object),
            json!(text(object, "addressType")),
            shown(ports),
            shown(addresses),
            rows::age(object, now),
        ])
    }
}

fn shown_port(port: &Value) -> String {
    match (opt_int(port, "port"), opt_text(port, "name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    }
}

/// The older version's topology is not accepted through this one.
fn drop_topology(object: &mut Value) {
    for endpoint in list_mut(object, "endpoints") {
        remove(endpoint, "deprecatedTopology");
    }
}

fn ports(object: &Value, errors: &mut FieldErrors) {
    let (ports, path) = (list(object, "ports"), Path::new("ports"));
    if ports.len() > PORTS_MAX {
        errors.too_many(&path, ports.len(), PORTS_MAX);
        return;
    }
    for (i, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(i), text(port, "name"));
        if !name.is_empty() {
            invalid_each(&path.child("name"), name, names::label(name), errors);
        }
        if ports[..i].iter().any(|p| text(p, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        match opt_text(port, "protocol") {
            None => errors.required(&path.child("protocol"), ""),
            Some("TCP" | "UDP" | "SCTP") => {}
            Some(other) => {
                errors.not_supported(&path.child("protocol"), other, &["SCTP", "TCP", "UDP"]);
            }
        }
        if let Some(application) = opt_text(port, "appProtocol") {
            let complaints = names::label_key(application);
            invalid_each(&path.child("appProtocol"), application, complaints, errors);
        }
    }
}

fn endpoints(object: &Value, errors: &mut FieldErrors) {
    let (endpoints, path) = (list(object, "endpoints"), Path::new("endpoints"));
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    let kind = text(object, "addressType");
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(i);
        let at_addresses = path.child("addresses");
        for (j, address) in texts(endpoint, "addresses").enumerate() {
            self::address(kind, address, &at_addresses, &at_addresses.index(j), errors);
        }
        if let Some(node) = opt_text(endpoint, "nodeName") {
            let complaints = NameRule::Dns1123Subdomain.check(node, false);
            invalid_each(&path.child("nodeName"), node, complaints, errors);
        }
        let at_topology = path.child("deprecatedTopology");
        let count = entry_count(endpoint, "deprecatedTopology");
        if count > TOPOLOGY_MAX {
            errors.too_many(&at_topology, count, TOPOLOGY_MAX);
        }
        labels(at(endpoint, "deprecatedTopology"), &at_topology, errors);
        if let Some(name) = opt_text(endpoint, "hostname") {
            invalid_each(&path.child("hostname"), name, names::label(name), errors);
        }
        if let Some(hints) = some(endpoint, "hints") {
            self::hints(hints, &path.child("hints"), errors);
        }
    }
}

fn address(kind: &str, address: &str, list: &Path<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let before = errors.0.len();
    match kind {
        "IPv4" => ip::validate_lenient(address, &[], path, errors),
        "IPv6" => ip::validate(address, path, errors),
        "FQDN" => return names::fully_qualified(address, path, errors),
        _ => return,
    }
    if errors.0.len() > before {
        return;
    }
    let fits = match ip::parse(address) {
        Some(IpAddr::V4(_)) => kind == "IPv4",
        Some(IpAddr::V6(_)) => kind == "IPv6",
        None => true,
    };
    if !fits {
        errors.invalid(list, address, &format!("must be an {kind} address"));
    }
    usable_ip(address, path, errors);
}

fn hints(hints: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (field, is_zone) in [("forZones", true), ("forNodes", false)] {
        let (all, path) = (list(hints, field), path.child(field));
        if all.len() > HINTS_MAX {
            errors.too_many(&path, all.len(), HINTS_MAX);
            return;
        }
        for (i, hint) in all.iter().enumerate() {
            let at_hint = path.index(i);
            let (path, name) = (at_hint.child("name"), text(hint, "name"));
            if all[..i].iter().any(|h| text(h, "name") == name) {
                errors.duplicate(&path, name);
            }
            let complaints = match is_zone {
                true => names::label_value(name),
                false => NameRule::Dns1123Subdomain.check(name, false),
            };
            invalid_each(&path, name, complaints, errors);
        }
    }
}

/// Declarative rules come last upstream.
fn declared(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let (kind, path) = (text(object, "addressType"), Path::new("addressType"));
    if old.is_some_and(|old| text(old, "addressType") != kind) {
        errors.invalid(&path, Value::Null, IMMUTABLE);
    } else if kind.is_empty() {
        errors.required(&path, "");
    } else if !TYPES.contains(&kind) {
        errors.not_supported(&path, kind, &TYPES);
    }
    let unchanged = old.is_some_and(|old| same_at(object, old, "endpoints"));
    let path = Path::new("endpoints");
    for (i, endpoint) in list(object, "endpoints").iter().enumerate().filter(|_| !unchanged) {
        let path = path.index(i);
        let count = list(endpoint, "addresses").len();
        if count == 0 {
            errors.required(&path.child("addresses"), "");
        } else if count > ADDRESSES_MAX {
            errors.too_many(&path.child("addresses"), count, ADDRESSES_MAX);
        }
    }
}
