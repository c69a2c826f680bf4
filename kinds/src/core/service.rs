//! Services: defaults, what a change of type drops, validation. Addresses and node ports are the registry's to allocate.

mod addresses;
mod update;

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::endpoints::usable_ip;
use crate::core::pod_spec::containers::{port_number, protocol};
use crate::core::pod_spec::probes::port;
use crate::ip;
use crate::names;
use crate::object_meta::{invalid_each, labels};
use crate::rows;
use crate::strategy::{NameRule, Request, Strategy, keep_status};
use crate::tree::{
    at, default_text, default_to, enter, has, int, list, list_mut, opt_int, opt_text, put, remove, some, text, texts,
};

/// The service strategy.
#[derive(Debug)]
pub(crate) struct Service;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const STICKY_MAX: i64 = 86_400;
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

impl Strategy for Service {
    fn name_rule(&self) -> NameRule {
        NameRule::Dns1123Label
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_service(object);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"loadBalancer": {}}));
        drop_internal_policy(object);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, None, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
        update::drop_type_dependent(new, old);
        drop_internal_policy(new);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        update::validate(new, old, errors);
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
        addresses::load_balancer_status(new, old, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(new)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let ports: Vec<String> = list(spec, "ports").iter().map(shown_port).collect();
        Some(vec![
            rows::name(object),
            json!(text(spec, "type")),
            json!(texts(spec, "clusterIPs").next().unwrap_or(rows::NONE)),
            json!(external_ip(object)),
            json!(rows::or_none(&ports.join(","))),
            rows::age(object, now),
            json!(rows::labels(spec, "selector")),
        ])
    }
}

/// Validates `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` alone: addresses are allocated by them before the
/// whole service is validated.
pub fn check_service_addresses(service: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    addresses::cluster_ips(at(service, "spec"), old, errors);
}

fn shown_port(port: &Value) -> String {
    let (number, protocol) = (int(port, "port"), text(port, "protocol"));
    match int(port, "nodePort") {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

fn external_ip(object: &Value) -> String {
    let spec = at(object, "spec");
    let external: Vec<&str> = texts(spec, "externalIPs").collect();
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => rows::or_none(&external.join(",")).to_owned(),
        "LoadBalancer" => {
            let mut all = rows::load_balancer(object);
            all.extend(external.into_iter().map(str::to_owned));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn default_service(object: &mut Value) {
    let spec = enter(object, "spec");
    default_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" => {
            let seconds = at(at(at(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds");
            if seconds.is_null() {
                put(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
            }
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    for port in list_mut(spec, "ports") {
        default_text(port, "protocol", "TCP");
        let unset = match at(port, "targetPort") {
            Value::String(name) => name.is_empty(),
            other => other.as_i64().unwrap_or(0) == 0,
        };
        if unset {
            let number = at(port, "port").clone();
            put(port, "targetPort", number);
        }
    }
    let kind = text(spec, "type").to_owned();
    if is_external(spec) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        default_to(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in list_mut(enter(enter(object, "status"), "loadBalancer"), "ingress") {
            if !text(ingress, "ip").is_empty() {
                default_to(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// A name has no traffic of its own; upstream stores the policy by mistake and hides it on every read.
fn drop_internal_policy(object: &mut Value) {
    let spec = enter(object, "spec");
    if text(spec, "type") == "ExternalName" {
        remove(spec, "internalTrafficPolicy");
    }
}

/// Reached from outside the cluster: by node port, load balancer or external address.
fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

/// A load balancer has to ask the nodes which of them have endpoints.
pub(crate) fn needs_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// No address of its own: DNS answers with the endpoints.
fn is_headless(spec: &Value) -> bool {
    let addresses: Vec<&str> = texts(spec, "clusterIPs").collect();
    addresses == ["None"]
}

fn validate(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    topology_annotations(object, errors);
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let headless = is_headless(spec);
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", &detail);
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    ports(spec, &path, errors);
    labels(at(spec, "selector"), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    addresses::cluster_ips(spec, old, errors);
    external_ips(spec, old, &path.child("externalIPs"), errors);
    match kind {
        "" => errors.required(&path.child("type"), ""),
        known if TYPES.contains(&known) => {}
        other => errors.not_supported(&path.child("type"), other, &TYPES),
    }
    repeated_ports(spec, &path.child("ports"), errors);
    addresses::source_ranges(object, old, errors);
    let allocates = has(spec, "allocateLoadBalancerNodePorts");
    if allocates && kind != "LoadBalancer" {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER);
    }
    if !allocates && kind == "LoadBalancer" {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    update::load_balancer_class(spec, errors);
    traffic(spec, &path, errors);
}

fn topology_annotations(object: &Value, errors: &mut FieldErrors) {
    let (hints, mode) = (meta::annotation(object, HINTS), meta::annotation(object, MODE));
    if let (Some(hints), Some(mode)) = (hints, mode)
        && hints != mode
    {
        let path = Path::new("metadata");
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&path.child("annotations").key(MODE), mode, &detail);
    }
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const DETAIL: &str = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !list(spec, field).is_empty() {
            errors.forbidden(&path.child(field), DETAIL);
        }
    }
    if has(spec, "ipFamilyPolicy") {
        errors.forbidden(&path.child("ipFamilyPolicy"), DETAIL);
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&path.child("externalName"), ""),
        name => invalid_each(&path.child("externalName"), name, names::subdomain(name), errors),
    }
}

fn ports(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let ports = list(spec, "ports");
    let at_ports = path.child("ports");
    for (i, entry) in ports.iter().enumerate() {
        let path = at_ports.index(i);
        let name = text(entry, "name");
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            invalid_each(&path.child("name"), name, names::label(name), errors);
            if ports[..i].iter().any(|p| text(p, "name") == name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        port_number(int(entry, "port"), &path.child("port"), errors);
        protocol(text(entry, "protocol"), &path.child("protocol"), errors);
        port(at(entry, "targetPort"), &path.child("targetPort"), errors);
        if let Some(application) = opt_text(entry, "appProtocol") {
            let complaints = names::label_key(application);
            invalid_each(&path.child("appProtocol"), application, complaints, errors);
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_config = path.child("sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "" => errors.required(&path.child("sessionAffinity"), ""),
        "ClientIP" => client_ip(some(spec, "sessionAffinityConfig"), &at_config, errors),
        "None" => {
            if has(spec, "sessionAffinityConfig") {
                errors.forbidden(&at_config, "must not be set when session affinity is None");
            }
        }
        other => {
            errors.not_supported(&path.child("sessionAffinity"), other, &["ClientIP", "None"]);
        }
    }
}

fn client_ip(config: Option<&Value>, path: &Path<'_>, errors: &mut FieldErrors) {
    const DETAIL: &str = "when session affinity type is ClientIP";
    let Some(config) = config else {
        errors.required(path, DETAIL);
        return;
    };
    let at_client = path.child("clientIP");
    let Some(client) = some(config, "clientIP") else {
        errors.required(&at_client, DETAIL);
        return;
    };
    let path = at_client.child("timeoutSeconds");
    match opt_int(client, "timeoutSeconds") {
        None => errors.required(&path, DETAIL),
        Some(seconds) if !(1..=STICKY_MAX).contains(&seconds) => {
            let detail = format!("must be greater than 0 and less than {STICKY_MAX}");
            errors.invalid(&path, seconds, &detail);
        }
        Some(_) => {}
    }
}

fn external_ips(spec: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut FieldErrors) {
    let kept: Vec<&str> = old.map_or_else(Vec::new, |old| texts(at(old, "spec"), "externalIPs").collect());
    for (i, address) in texts(spec, "externalIPs").enumerate() {
        let path = path.index(i);
        let before = errors.0.len();
        ip::validate_lenient(address, &kept, &path, errors);
        if errors.0.len() == before {
            usable_ip(address, &path, errors);
        }
    }
}

fn repeated_ports(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let ports = list(spec, "ports");
    if text(spec, "type") == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| int(port, "nodePort") != 0) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&path.index(i).child("nodePort"), detail);
        }
    }
    let same = |a: &Value, b: &Value, field: &str| {
        int(a, field) == int(b, field) && text(a, "protocol") == text(b, "protocol")
    };
    for (i, port) in ports.iter().enumerate().filter(|(_, port)| int(port, "nodePort") != 0) {
        if ports[..i].iter().any(|other| same(other, port, "nodePort")) {
            errors.duplicate(&path.index(i).child("nodePort"), int(port, "nodePort"));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|other| same(other, port, "port")) {
            // Upstream shows the key it remembers: an internal port with only these two set.
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                json!(text(port, "protocol")),
                int(port, "port"),
            );
            let message = format!("Duplicate value: {shown}");
            errors.push(api::field::ErrorKind::Duplicate, &path.index(i), message);
        }
    }
}

fn traffic(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const POLICIES: [&str; 2] = ["Cluster", "Local"];
    let at_policy = path.child("externalTrafficPolicy");
    match (is_external(spec), text(spec, "externalTrafficPolicy")) {
        (false, "") => {}
        (false, policy) => {
            let detail = "may only be set for externally-accessible services";
            errors.invalid(&at_policy, policy, detail);
        }
        (true, "") => errors.required(&at_policy, ""),
        (true, known) if POLICIES.contains(&known) => {}
        (true, other) => errors.not_supported(&at_policy, other, &POLICIES),
    }
    let at_port = path.child("healthCheckNodePort");
    match (needs_health_check(spec), int(spec, "healthCheckNodePort")) {
        (false, 0) => {}
        (false, number) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at_port, number, detail);
        }
        (true, 0) => errors.required(&at_port, ""),
        (true, number) => port_number(number, &at_port, errors),
    }
    let at_policy = path.child("internalTrafficPolicy");
    match opt_text(spec, "internalTrafficPolicy") {
        None if text(spec, "type") != "ExternalName" && TYPES.contains(&text(spec, "type")) => {
            errors.required(&at_policy, "");
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            errors.not_supported(&at_policy, policy, &POLICIES);
        }
        _ => {}
    }
    const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(word) = opt_text(spec, "trafficDistribution").filter(|w| !DISTRIBUTIONS.contains(w)) {
        let path = path.child("trafficDistribution");
        crate::core::pod_spec::not_supported_unsorted(&path, word, &DISTRIBUTIONS, errors);
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let spec = at(object, "spec");
    let external = !list(spec, "externalIPs").is_empty();
    let (kind, headless) = (text(spec, "type"), is_headless(spec));
    let names = kind == "ExternalName";
    let found = [
        (
            meta::annotation(object, HINTS).is_some(),
            format!("annotation {HINTS} is deprecated, please use {MODE} instead"),
        ),
        (
            headless && !text(spec, "loadBalancerIP").is_empty(),
            "spec.loadBalancerIP is ignored for headless services".to_owned(),
        ),
        (headless && external, "spec.externalIPs is ignored for headless services".to_owned()),
        (
            headless && text(spec, "sessionAffinity") != "None",
            "spec.SessionAffinity is ignored for headless services".to_owned(),
        ),
        (
            external && !headless && !names,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        ),
        (external && names, "spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned()),
        (
            !names && !text(spec, "externalName").is_empty(),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned(),
        ),
        (
            text(spec, "trafficDistribution") == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        ),
    ];
    found.into_iter().filter(|(applies, _)| *applies).map(|(_, warning)| warning).collect()
}
