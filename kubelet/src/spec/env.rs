//! A container's environment: from config maps and secrets, own variables, fields, services.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};

use super::expand::expand;
use super::fields::{self, Addresses, Allocatable};
use crate::pod;

/// Config maps and secrets that the environment refers to; absent ones do not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Referred {
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub secrets: BTreeMap<String, BTreeMap<String, ByteString>>,
}

pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub referred: &'a Referred,
    pub services: &'a BTreeMap<String, String>,
    pub addresses: &'a Addresses,
    pub node: Allocatable,
}

/// Names of the config maps and secrets to look up.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    for list in [&mut config_maps, &mut secrets] {
        list.sort();
        list.dedup();
    }
    (config_maps, secrets)
}

/// The variables, sorted by name: own ones win over `envFrom`, which wins over services.
///
/// # Errors
/// A message for what is missing and not optional, in the API's words.
pub(crate) fn build(inputs: &Inputs<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    add_env_from(inputs, &mut env)?;
    for variable in inputs.container.env.iter().flatten() {
        if let Some(value) = value(inputs, variable, &env)? {
            env.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in inputs.services {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(env)
}

fn add_env_from(inputs: &Inputs<'_>, env: &mut BTreeMap<String, String>) -> Result<(), String> {
    for from in inputs.container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(data) = config_map(inputs, &reference.name, optional)? {
                env.extend(data.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(data) = secret(inputs, &reference.name, optional)? {
                env.extend(data.iter().map(|(key, value)| (format!("{prefix}{key}"), text(value))));
            }
        }
    }
    Ok(())
}

fn text(bytes: &ByteString) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

/// The error is what the API answers for a missing object.
fn config_map<'a>(
    inputs: &Inputs<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a BTreeMap<String, String>>, String> {
    match inputs.referred.config_maps.get(name) {
        Some(data) => Ok(Some(data)),
        None if optional => Ok(None),
        None => Err(format!("configmap {name:?} not found")),
    }
}

fn secret<'a>(
    inputs: &Inputs<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a BTreeMap<String, ByteString>>, String> {
    match inputs.referred.secrets.get(name) {
        Some(data) => Ok(Some(data)),
        None if optional => Ok(None),
        None => Err(format!("secret {name:?} not found")),
    }
}

fn value(inputs: &Inputs<'_>, variable: &EnvVar, env: &BTreeMap<String, String>) -> Result<Option<String>, String> {
    let plain = variable.value.as_deref().unwrap_or_default();
    if !plain.is_empty() {
        let lookup = |name: &str| env.get(name).or_else(|| inputs.services.get(name)).cloned();
        return Ok(Some(expand(plain, &lookup)));
    }
    match &variable.value_from {
        Some(source) => sourced(inputs, source),
        None => Ok(Some(String::new())),
    }
}

fn sourced(inputs: &Inputs<'_>, source: &EnvVarSource) -> Result<Option<String>, String> {
    let namespace = pod::namespace(inputs.pod);
    if let Some(field) = &source.field_ref {
        return fields::field(inputs.pod, &field.field_path, inputs.addresses).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(inputs.pod, inputs.container, selector, inputs.node).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(data) = config_map(inputs, &reference.name, optional)? else { return Ok(None) };
        let missing = || format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name);
        return found(data.get(&reference.key).cloned(), optional, missing);
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(data) = secret(inputs, &reference.name, optional)? else { return Ok(None) };
        let missing = || format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name);
        return found(data.get(&reference.key).map(text), optional, missing);
    }
    Ok(Some(String::new()))
}

fn found(value: Option<String>, optional: bool, missing: impl Fn() -> String) -> Result<Option<String>, String> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(missing()),
    }
}

/// Variables for the services a pod sees: `kubernetes` always, those of its namespace when it wants links.
pub(crate) fn service_variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut by_name: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(of)) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref()) else {
            continue;
        };
        if of == "default" && name == "kubernetes" {
            by_name.entry(name).or_insert(service);
        } else if of == namespace && links {
            by_name.insert(name, service);
        }
    }
    by_name.into_iter().flat_map(|(name, service)| variables(name, service)).collect()
}

fn variables(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (false, Some(first)) = (ip.is_empty() || ip == "None", ports.first()) else { return Vec::new() };
    let prefix = variable_name(name);
    let mut list = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            list.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{}", port.port);
        if index == 0 {
            list.push((format!("{prefix}_PORT"), url.clone()));
        }
        let one = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        list.push((one.clone(), url));
        list.push((format!("{one}_PROTO"), lower));
        list.push((format!("{one}_PORT"), port.port.to_string()));
        list.push((format!("{one}_ADDR"), ip.to_owned()));
    }
    list
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests;
