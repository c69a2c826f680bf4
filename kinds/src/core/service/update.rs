//! What a change of a service's type drops, and what may not change.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{ONLY_LOAD_BALANCER, is_external, is_headless, needs_health_check};
use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, enter, int, list, list_mut, opt_text, put, remove, same_at, text, texts};

const ONCE: &str = "may not change once set";

/// A client that changes the type and sends the rest back as it was does not ask for the leftovers.
pub(super) fn drop_type_dependent(new: &mut Value, old: &Value) {
    let old_spec = at(old, "spec");
    let new_type = text(at(new, "spec"), "type").to_owned();
    let old_type = text(old_spec, "type");
    let spec = enter(new, "spec");
    let balanced = |kind: &str| kind == "LoadBalancer";
    if old_type != "ExternalName" && new_type == "ExternalName" {
        if same_at(spec, old_spec, "clusterIP") && same_at(spec, old_spec, "clusterIPs") {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        drop_same(spec, old_spec, "ipFamilies");
        drop_same(spec, old_spec, "ipFamilyPolicy");
    }
    if has_node_ports(old_type) && !has_node_ports(&new_type) && same_node_ports(spec, old_spec) {
        for port in list_mut(spec, "ports") {
            remove(port, "nodePort");
        }
    }
    if needs_health_check(old_spec) && !needs_health_check(spec) {
        drop_same(spec, old_spec, "healthCheckNodePort");
    }
    if balanced(old_type) && !balanced(&new_type) {
        drop_same(spec, old_spec, "allocateLoadBalancerNodePorts");
        drop_same(spec, old_spec, "loadBalancerClass");
    }
    if is_external(old_spec) && !is_external(spec) {
        drop_same(spec, old_spec, "externalTrafficPolicy");
    }
    if !balanced(&new_type) {
        put(enter(new, "status"), "loadBalancer", serde_json::json!({}));
    }
}

fn drop_same(spec: &mut Value, old: &Value, field: &str) {
    if same_at(spec, old, field) {
        remove(spec, field);
    }
}

fn has_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let ports = |spec| list(spec, "ports").iter().map(|p| int(p, "nodePort")).filter(|p| *p != 0);
    let known: Vec<i64> = ports(old).collect();
    ports(new).all(|port| known.contains(&port))
}

/// Validates a change against the stored service; the new one by itself is validated apart.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, old_spec, path) = (at(new, "spec"), at(old, "spec"), Path::new("spec"));
    let external = |spec| text(spec, "type") == "ExternalName";
    if !external(spec) && !external(old_spec) {
        cluster_ips(spec, old_spec, &path, errors);
        families(spec, old_spec, &path, errors);
    }
    let balanced = |spec| text(spec, "type") == "LoadBalancer";
    if balanced(spec) && balanced(old_spec) && !same_at(spec, old_spec, "loadBalancerClass") {
        let class = at(spec, "loadBalancerClass").clone();
        errors.invalid(&path.child("loadBalancerClass"), class, ONCE);
    }
    load_balancer_class(spec, errors);
    let both = needs_health_check(spec) && needs_health_check(old_spec);
    if both && !same_at(spec, old_spec, "healthCheckNodePort") {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

/// Validates `loadBalancerClass`.
pub(super) fn load_balancer_class(spec: &Value, errors: &mut FieldErrors) {
    let Some(class) = opt_text(spec, "loadBalancerClass") else {
        return;
    };
    let path = Path::new("spec");
    let path = path.child("loadBalancerClass");
    if text(spec, "type") == "LoadBalancer" {
        invalid_each(&path, class, names::label_key(class), errors);
    } else {
        errors.forbidden(&path, ONLY_LOAD_BALANCER);
    }
}

fn cluster_ips(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_headless(spec) && is_headless(old) {
        return;
    }
    let (now, before): (Vec<&str>, Vec<&str>) =
        (texts(spec, "clusterIPs").collect(), texts(old, "clusterIPs").collect());
    let at_ips = path.child("clusterIPs");
    let shown = at(spec, "clusterIPs").clone();
    if now.len() == before.len() {
        for (i, _) in before.iter().enumerate().filter(|(i, ip)| **ip != now[*i]) {
            errors.invalid(&at_ips.index(i), shown.clone(), ONCE);
        }
        return;
    }
    let moved = matches!((now.first(), before.first()), (Some(now), Some(before)) if now != before);
    if now.is_empty() {
        errors.invalid(&at_ips.index(0), shown, "primary clusterIP can not be unset");
    } else if moved {
        errors.invalid(&at_ips.index(0), shown, ONCE);
    }
    released(spec, now.len() == 1 && before.len() > 1, "clusterIP", path, errors);
}

fn families(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if is_headless(spec) || is_headless(old) {
        return;
    }
    let (now, before): (Vec<&str>, Vec<&str>) =
        (texts(spec, "ipFamilies").collect(), texts(old, "ipFamilies").collect());
    let at_first = path.child("ipFamilies");
    let at_first = at_first.index(0);
    if now.len() == before.len() {
        for _ in before.iter().zip(&now).filter(|(before, now)| before != now) {
            errors.invalid(&at_first, at(spec, "ipFamilies").clone(), ONCE);
        }
        return;
    }
    let shrinks = now.len() < before.len();
    if shrinks && list(spec, "clusterIPs").is_empty() {
        let shown = at(spec, "ipFamilies").clone();
        errors.invalid(&at_first, shown, "primary ipFamily can not be unset");
    }
    if matches!((now.first(), before.first()), (Some(now), Some(before)) if now != before) {
        // Upstream shows the addresses here, not the families.
        errors.invalid(&at_first, at(spec, "clusterIPs").clone(), ONCE);
    }
    released(spec, shrinks && now.len() == 1, "ipFamily", path, errors);
}

/// Giving up the second address or family has to be said.
fn released(spec: &Value, one_left: bool, what: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if one_left && text(spec, "ipFamilyPolicy") != "SingleStack" {
        let shown = at(spec, "ipFamilyPolicy").clone();
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&path.child("ipFamilyPolicy"), shown, &detail);
    }
}
