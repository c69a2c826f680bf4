//! Validation of a pod's network: host ports, DNS configuration, host names and aliases.

use api::Value;
use api::field::{FieldErrors, Path};

use super::Meta;
use crate::object_meta::invalid_each;
use crate::tree::{flag, int, list, opt_flag, opt_text, some, text, texts};
use crate::{ip, names};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
const HOSTNAME_MAX: usize = 64;

/// On the host's network, a port of the host is the container's.
pub(super) fn host_ports(spec: &Value, meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let containers = path.child("containers");
    for (i, container) in list(spec, "containers").iter().enumerate() {
        let at_container = containers.index(i);
        let ports = at_container.child("ports");
        for (j, port) in list(container, "ports").iter().enumerate() {
            let (host, own) = (int(port, "hostPort"), int(port, "containerPort"));
            let checked = matches!(meta, Meta::Pod(_)) || host != 0;
            if checked && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&ports.index(j).child("hostPort"), host, detail);
            }
        }
    }
}

/// Validates `dnsConfig` against `dnsPolicy`.
pub(super) fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let config = some(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        };
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    if let Some(config) = config {
        servers_and_searches(config, path, errors);
    }
}

fn servers_and_searches(config: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_servers = path.child("nameservers");
    let servers = list(config, "nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&at_servers, servers.to_vec(), &detail);
    }
    for (i, server) in texts(config, "nameservers").enumerate() {
        ip::validate_lenient(server, &[], &at_servers.index(i), errors);
    }
    let at_searches = path.child("searches");
    let searches = list(config, "searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&at_searches, searches.to_vec(), &detail);
    }
    let characters: usize = texts(config, "searches").map(|s| s.len() + 1).sum();
    if characters > SEARCH_CHARS_MAX + 1 {
        let detail =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.invalid(&at_searches, searches.to_vec(), &detail);
    }
    for (i, search) in texts(config, "searches").enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let complaints = names::subdomain_with_underscore(search);
        invalid_each(&at_searches.index(i), search, complaints, errors);
    }
    let at_options = path.child("options");
    for (i, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.required(&at_options.index(i), "must not be empty");
        }
    }
}

/// Validates `hostnameOverride`.
pub(super) fn hostname_override(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(name) = opt_text(spec, "hostnameOverride") else {
        return;
    };
    let path = path.child("hostnameOverride");
    if opt_flag(spec, "setHostnameAsFQDN") == Some(true) {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if flag(spec, "hostNetwork") {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > HOSTNAME_MAX {
        errors.too_long(&path, HOSTNAME_MAX);
    }
    invalid_each(&path, name, names::subdomain(name), errors);
}

/// Validates `hostAliases`.
pub(super) fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(i);
        ip::validate_lenient(text(alias, "ip"), &[], &path.child("ip"), errors);
        let hostnames = path.child("hostnames");
        for (j, name) in texts(alias, "hostnames").enumerate() {
            invalid_each(&hostnames.index(j), name, names::subdomain(name), errors);
        }
    }
}
