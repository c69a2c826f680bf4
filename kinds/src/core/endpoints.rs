//! Endpoints, the older form of endpoint slices.

use std::net::IpAddr;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::containers::{port_number, protocol};
use crate::ip;
use crate::names::{self, NameRule};
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{default_text, int, list, list_mut, opt_text, same_at, text};

/// The endpoints strategy.
#[derive(Debug)]
pub(crate) struct Endpoints;

const SHOWN: usize = 3;

impl Strategy for Endpoints {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        for subset in list_mut(object, "subsets") {
            for port in list_mut(subset, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        if !same_at(new, old, "subsets") {
            validate(new, errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(shown(object)), rows::age(object, now)])
    }
}

fn shown(object: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    for subset in list(object, "subsets") {
        let addresses = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            all.extend(addresses().map(|address| host_port(address, int(port, "port"))));
        }
    }
    if list(object, "subsets").is_empty() {
        return rows::NONE.to_owned();
    }
    let count = all.len();
    all.truncate(SHOWN);
    rows::with_more(&all, count, SHOWN)
}

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("subsets");
    for (i, subset) in list(object, "subsets").iter().enumerate() {
        let path = path.index(i);
        let (ready, unready) = (list(subset, "addresses"), list(subset, "notReadyAddresses"));
        if ready.is_empty() && unready.is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
            let path = path.child(field);
            for (j, entry) in addresses.iter().enumerate() {
                address(entry, &path.index(j), errors);
            }
        }
        let ports = list(subset, "ports");
        let at_ports = path.child("ports");
        for (j, port) in ports.iter().enumerate() {
            self::port(port, ports.len() > 1, &at_ports.index(j), errors);
        }
    }
}

fn address(entry: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let address = text(entry, "ip");
    ip::validate_lenient(address, &[], &path.child("ip"), errors);
    let hostname = text(entry, "hostname");
    if !hostname.is_empty() {
        invalid_each(&path.child("hostname"), hostname, names::label(hostname), errors);
    }
    if let Some(node) = opt_text(entry, "nodeName") {
        let complaints = NameRule::Dns1123Subdomain.check(node, false);
        invalid_each(&path.child("nodeName"), node, complaints, errors);
    }
    usable_ip(address, &path.child("ip"), errors);
}

/// An address that traffic may be sent to: no loopback, link-local or unspecified one.
pub(crate) fn usable_ip(address: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(parsed) = ip::parse(address) else {
        errors.invalid(path, address, "must be a valid IP address");
        return;
    };
    let mut refuse = |refused: bool, detail: &str| {
        if refused {
            errors.invalid(path, address, detail);
        }
    };
    let (link_local, link_local_multicast) = match parsed {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    refuse(parsed.is_unspecified(), &format!("may not be unspecified ({address})"));
    refuse(parsed.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    refuse(link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    refuse(link_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
}

fn port(port: &Value, named: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(port, "name") {
        "" if named => errors.required(&path.child("name"), ""),
        "" => {}
        name => invalid_each(&path.child("name"), name, names::label(name), errors),
    }
    port_number(int(port, "port"), &path.child("port"), errors);
    protocol(text(port, "protocol"), &path.child("protocol"), errors);
    if let Some(application) = opt_text(port, "appProtocol") {
        let complaints = names::label_key(application);
        invalid_each(&path.child("appProtocol"), application, complaints, errors);
    }
}
