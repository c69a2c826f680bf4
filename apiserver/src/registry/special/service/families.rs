//! `ipFamilies`, `ipFamilyPolicy` and `clusterIPs` of a service, as the cluster's families let them be: pure.

use api::field::{FieldErrors, Path};
use api::{Status, Value, meta};
use kinds::tree::{at, enter, list, put, same_at, text, texts};

use super::{HEADLESS, is_external_name};
use crate::addresses::ServiceRanges;

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

fn spec(service: &Value) -> &Value {
    at(service, "spec")
}

fn policy(service: &Value) -> &str {
    text(spec(service), "ipFamilyPolicy")
}

pub(super) fn families(service: &Value) -> Vec<String> {
    texts(spec(service), "ipFamilies").map(str::to_owned).collect()
}

/// A PreferDualStack service of which neither type nor addresses are touched stays as it is, whatever the cluster has by
/// now. One that becomes another type takes addresses or gives them up.
pub(super) fn keeps_preferred(new: &Value, old: &Value) -> bool {
    let same = |field: &str| same_at(spec(new), spec(old), field);
    same("type") && policy(new) == PREFER && policy(old) == PREFER && same("clusterIPs") && same("ipFamilies")
}

/// Brings `clusterIPs` in line with a changed `clusterIP`.
pub(super) fn normalise_ips(new: &mut Value, old: &Value) {
    let before = text(spec(old), "clusterIP").to_owned();
    let after = text(spec(new), "clusterIP").to_owned();
    let unchanged = same_at(spec(new), spec(old), "clusterIPs");
    if before == after {
        if list(spec(new), "clusterIPs").is_empty() && !list(spec(old), "clusterIPs").is_empty() {
            put(enter(new, "spec"), "clusterIPs", at(spec(old), "clusterIPs").clone());
        }
        return;
    }
    if !unchanged {
        return;
    }
    if !before.is_empty() && after.is_empty() {
        kinds::tree::remove(enter(new, "spec"), "clusterIPs");
    } else {
        put(enter(new, "spec"), "clusterIPs", vec![after]);
    }
}

/// Fills families and policy, or says why they cannot be had.
pub(super) fn init(new: &mut Value, old: Option<&Value>, cluster: &ServiceRanges) -> Result<(), Status> {
    if is_external_name(new) || old.is_some_and(|old| keeps_preferred(new, old)) {
        return Ok(());
    }
    let headless = text(spec(new), "clusterIP") == HEADLESS;
    let selects_nothing = kinds::tree::entry_count(spec(new), "selector") == 0;
    if policy(new).is_empty() {
        let kept = old.map(policy).filter(|policy| !policy.is_empty());
        let chosen = kept.unwrap_or(if headless && selects_nothing { REQUIRE } else { SINGLE }).to_owned();
        put(enter(new, "spec"), "ipFamilyPolicy", chosen);
    }
    let mut errors = FieldErrors::new();
    kinds::core::check_service_addresses(new, old, &mut errors);
    refuse(new, &errors)?;
    if let Some(old) = old {
        shrink(new, old, &mut errors);
    }
    check_policy(new, &mut errors);
    infer_families(new, cluster, &mut errors);
    refuse(new, &errors)?;
    let default = cluster.families().next().unwrap_or(IPV4);
    if headless && selects_nothing {
        complete(new, default, policy(new) != SINGLE);
        return Ok(());
    }
    check_cluster(new, cluster, &mut errors);
    refuse(new, &errors)?;
    complete(new, default, policy(new) != SINGLE && cluster.is_dual());
    Ok(())
}

fn refuse(service: &Value, errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Service", meta::name(service), errors)) }
}

/// SingleStack on untouched addresses means that the second ones go; by another policy they may not.
fn shrink(new: &mut Value, old: &Value, errors: &mut FieldErrors) {
    let single = policy(new) == SINGLE;
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (list(spec(new), field), list(spec(old), field));
        if !single && !now.is_empty() && now.len() < before.len() {
            let path = Path::new("spec");
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.invalid(&path.child("ipFamilyPolicy"), policy(new), &detail);
        }
        if single && now.len() > 1 && same_at(spec(new), spec(old), field) {
            let first = now[0].clone();
            put(enter(new, "spec"), field, vec![first]);
        }
    }
}

fn check_policy(service: &Value, errors: &mut FieldErrors) {
    if policy(service) != SINGLE {
        return;
    }
    let spec_path = Path::new("spec");
    let path = spec_path.child("ipFamilyPolicy");
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if list(spec(service), field).len() == 2 {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.invalid(&path, SINGLE, &detail);
        }
    }
}

/// Addresses say their families where nobody else does.
fn infer_families(service: &mut Value, cluster: &ServiceRanges, errors: &mut FieldErrors) {
    let ips: Vec<String> = texts(spec(service), "clusterIPs").map(str::to_owned).collect();
    let mut families = families(service);
    let spec_path = Path::new("spec");
    let path = spec_path.child("clusterIPs");
    for (index, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != HEADLESS) {
        if index < families.len() {
            continue;
        }
        let family = if ip.contains(':') { IPV6 } else { IPV4 };
        if cluster.has(family) {
            families.push(family.to_owned());
        } else {
            errors.invalid(&path.index(index), ips.clone(), &format!("{family} is not configured on this cluster"));
        }
    }
    if !families.is_empty() {
        put(enter(service, "spec"), "ipFamilies", families);
    }
}

/// Fills what is missing: the default family, and the other one where there are to be both.
fn complete(service: &mut Value, default: &str, both: bool) {
    let mut families = families(service);
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if families.len() < 2 && both {
        let other = if families[0] == IPV4 { IPV6 } else { IPV4 };
        families.push(other.to_owned());
    }
    put(enter(service, "spec"), "ipFamilies", families);
}

fn check_cluster(service: &Value, cluster: &ServiceRanges, errors: &mut FieldErrors) {
    let spec_path = Path::new("spec");
    if policy(service) == REQUIRE && !cluster.is_dual() {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&spec_path.child("ipFamilyPolicy"), REQUIRE, detail);
    }
    let path = spec_path.child("ipFamilies");
    for (index, family) in texts(spec(service), "ipFamilies").enumerate().filter(|(_, family)| !cluster.has(family)) {
        errors.invalid(&path.index(index), family, "not configured on this cluster");
    }
}
