//! Validation of a service's addresses: its own, its families, the ranges it admits, its load balancer's.

use api::field::{FieldErrors, Path};
use api::{Value, meta};

use super::{ONLY_LOAD_BALANCER, SOURCE_RANGES, is_headless};
use crate::ip;
use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, list, opt_text, text, texts};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`, which have to agree.
pub(super) fn cluster_ips(spec: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let path = Path::new("spec");
    let at_ips = path.child("clusterIPs");
    let ips: Vec<&str> = texts(spec, "clusterIPs").collect();
    let shown = at(spec, "clusterIPs").clone();
    match (text(spec, "clusterIP"), ips.first()) {
        ("", Some(_)) => {
            errors.invalid(&at_ips, shown.clone(), "must be empty when `clusterIP` is not specified");
        }
        ("", None) => {}
        (_, None) => errors.required(&at_ips, ""),
        (single, Some(first)) if single != *first => {
            errors.invalid(&at_ips, shown.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(spec, &path, errors);
    let kept: Vec<&str> = old.map_or_else(Vec::new, |old| texts(at(old, "spec"), "clusterIPs").collect());
    let before = errors.0.len();
    for (i, address) in ips.iter().enumerate() {
        if i > 0 || *address != "None" {
            ip::validate_lenient(address, &kept, &at_ips.index(i), errors);
        } else if ips.len() > 1 {
            errors.invalid(&at_ips, shown.clone(), "'None' must be the first and only value");
        }
    }
    let malformed = errors.0.len() > before;
    if ips.len() > 2 {
        errors.invalid(&at_ips, shown.clone(), "may only hold up to 2 values");
    }
    if malformed {
        return;
    }
    if ips.len() > 1 && !ip::is_dual_stack(ips.iter().copied()) {
        errors.invalid(&at_ips, shown, "may specify no more than one IP for each IP family");
    }
    if !is_headless(spec) {
        match_families(spec, &ips, &at_ips, errors);
    }
}

fn families(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_families = path.child("ipFamilies");
    let families: Vec<&str> = texts(spec, "ipFamilies").collect();
    for (i, family) in families.iter().enumerate() {
        if !FAMILIES.contains(family) {
            errors.not_supported(&at_families.index(i), *family, &FAMILIES);
        }
        if families[..i].contains(family) {
            errors.duplicate(&at_families.index(i), *family);
        }
    }
    if let Some(policy) = opt_text(spec, "ipFamilyPolicy").filter(|p| !POLICIES.contains(p)) {
        errors.not_supported(&path.child("ipFamilyPolicy"), policy, &POLICIES);
    }
}

fn match_families(spec: &Value, ips: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, (address, family)) in ips.iter().zip(texts(spec, "ipFamilies")).enumerate() {
        let is_v6 = ip::family(address) == Some("IPv6");
        let fits = if family == "IPv6" { is_v6 } else { !is_v6 };
        if !fits {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&path.index(i), *address, &detail);
        }
    }
}

/// The ranges that a load balancer admits, from the field or the older annotation.
pub(super) fn source_ranges(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = at(object, "spec");
    let balanced = text(spec, "type") == "LoadBalancer";
    if !list(spec, "loadBalancerSourceRanges").is_empty() {
        let path = Path::new("spec");
        let path = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, ONLY_LOAD_BALANCER);
        }
        let kept: Vec<&str> = old
            .map_or_else(Vec::new, |old| texts(at(old, "spec"), "loadBalancerSourceRanges").map(str::trim).collect());
        for (i, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
            ip::validate_cidr_lenient(range.trim(), &kept, &path.index(i), errors);
        }
        return;
    }
    let Some(ranges) = meta::annotation(object, SOURCE_RANGES) else {
        return;
    };
    let path = Path::new("metadata");
    let path = path.child("annotations");
    let path = path.key(SOURCE_RANGES);
    if !balanced {
        errors.forbidden(&path, ONLY_LOAD_BALANCER);
    }
    let unchanged = old.is_some_and(|old| meta::annotation(old, SOURCE_RANGES) == Some(ranges));
    if !unchanged && !ranges.trim().is_empty() {
        for range in ranges.trim().split(',') {
            ip::validate_cidr_lenient(range.trim(), &[], &path, errors);
        }
    }
}

/// `status.loadBalancer`.
pub(super) fn load_balancer_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let of = |object| at(at(object, "status"), "loadBalancer");
    let path = Path::new("status");
    let path = path.child("loadBalancer");
    let path = path.child("ingress");
    let ingress = list(of(new), "ingress");
    if text(at(new, "spec"), "type") != "LoadBalancer" && !ingress.is_empty() {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let kept: Vec<&str> = list(of(old), "ingress").iter().map(|i| text(i, "ip")).collect();
    for (i, entry) in ingress.iter().enumerate() {
        ingress_entry(entry, &kept, &path.index(i), errors);
    }
}

fn ingress_entry(entry: &Value, kept: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let address = text(entry, "ip");
    if !address.is_empty() {
        ip::validate_lenient(address, kept, &path.child("ip"), errors);
    }
    match (opt_text(entry, "ipMode"), address.is_empty()) {
        (None, false) => errors.required(&path.child("ipMode"), "must be specified when `ip` is set"),
        (Some(_), true) => {
            errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set");
        }
        (Some(mode), false) if !matches!(mode, "VIP" | "Proxy") => {
            errors.not_supported(&path.child("ipMode"), mode, &["Proxy", "VIP"]);
        }
        _ => {}
    }
    hostname(text(entry, "hostname"), path, errors);
}

/// An optional DNS name of a load balancer.
pub(crate) fn hostname(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if name.is_empty() {
        return;
    }
    let path = path.child("hostname");
    invalid_each(&path, name, names::subdomain(name), errors);
    if ip::parse(name).is_some() {
        errors.invalid(&path, name, "must be a DNS name, not an IP address");
    }
}
