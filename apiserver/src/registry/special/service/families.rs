//! `ipFamilies`, `ipFamilyPolicy` and `clusterIPs` of a service on a cluster that has IPv4 only.

use api::field::{FieldErrors, Path};
use api::{Status, Value, meta};
use kinds::tree::{at, enter, has, list, put, same_at, text, texts};

use super::{HEADLESS, is_external_name};

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
pub(super) fn init(new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
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
    if let Some(old) = old {
        shrink(new, old);
    }
    let mut errors = FieldErrors::new();
    check_policy(new, &mut errors);
    infer_families(new, &mut errors);
    refuse(new, &errors)?;
    if headless && selects_nothing {
        complete_headless(new);
        return Ok(());
    }
    check_cluster(new, &mut errors);
    refuse(new, &errors)?;
    if list(spec(new), "ipFamilies").is_empty() {
        put(enter(new, "spec"), "ipFamilies", vec![IPV4]);
    }
    Ok(())
}

fn refuse(service: &Value, errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Service", meta::name(service), errors)) }
}

/// SingleStack on untouched addresses means that the second ones go.
fn shrink(new: &mut Value, old: &Value) {
    if policy(new) != SINGLE {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        let two = list(spec(new), field).len() > 1 && same_at(spec(new), spec(old), field);
        if two {
            let first = list(spec(new), field)[0].clone();
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

fn infer_families(service: &mut Value, errors: &mut FieldErrors) {
    let ips: Vec<String> = texts(spec(service), "clusterIPs").map(str::to_owned).collect();
    let mut families: Vec<String> = texts(spec(service), "ipFamilies").map(str::to_owned).collect();
    let spec_path = Path::new("spec");
    let path = spec_path.child("clusterIPs");
    for (index, ip) in ips.iter().enumerate() {
        if ip == HEADLESS {
            break;
        }
        if index < families.len() || ip.parse::<std::net::IpAddr>().is_err() {
            continue;
        }
        if ip.contains(':') {
            errors.invalid(&path.index(index), ips.clone(), "IPv6 is not configured on this cluster");
        } else {
            families.push(IPV4.to_owned());
        }
    }
    if !families.is_empty() && !has(spec(service), "ipFamilies") {
        put(enter(service, "spec"), "ipFamilies", families);
    }
}

fn complete_headless(service: &mut Value) {
    let mut families: Vec<String> = texts(spec(service), "ipFamilies").map(str::to_owned).collect();
    if families.is_empty() {
        families.push(IPV4.to_owned());
    }
    if families.len() < 2 && policy(service) != SINGLE {
        let other = if families[0] == IPV4 { IPV6 } else { IPV4 };
        families.push(other.to_owned());
    }
    put(enter(service, "spec"), "ipFamilies", families);
}

fn check_cluster(service: &Value, errors: &mut FieldErrors) {
    let spec_path = Path::new("spec");
    if policy(service) == REQUIRE {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&spec_path.child("ipFamilyPolicy"), REQUIRE, detail);
    }
    let path = spec_path.child("ipFamilies");
    for (index, family) in texts(spec(service), "ipFamilies").enumerate().filter(|(_, family)| *family == IPV6) {
        errors.invalid(&path.index(index), family, "not configured on this cluster");
    }
}
