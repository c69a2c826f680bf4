//! The `KubeletConfiguration` file: what it says, in upstream's words.
//!
//! Flags win over the file, the file over the defaults. A field that this node agent has no use for is named in the
//! log, so that nobody believes it to be in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use crate::error::Error;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub healthz_bind_address: Option<IpAddr>,
    pub healthz_port: Option<u16>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_private_key_file: Option<PathBuf>,
    #[serde(default)]
    pub authentication: Authentication,
    #[serde(default)]
    pub authorization: Authorization,
    pub register_node: Option<bool>,
    pub register_with_taints: Option<Vec<Taint>>,
    pub static_pod_path: Option<PathBuf>,
    pub pod_logs_dir: Option<PathBuf>,
    pub container_runtime_endpoint: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<IpAddr>>,
    pub cluster_domain: Option<String>,
    pub resolv_conf: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: Option<bool>,
    pub cgroup_root: Option<String>,
    pub max_pods: Option<u32>,
    pub system_reserved: Option<BTreeMap<String, String>>,
    pub kube_reserved: Option<BTreeMap<String, String>>,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub image_gc_high_threshold_percent: Option<u8>,
    pub image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "imageMinimumGCAge", default, deserialize_with = "duration")]
    pub image_minimum_gc_age: Option<Duration>,
    pub container_log_max_size: Option<String>,
    pub container_log_max_files: Option<u32>,
    pub serialize_image_pulls: Option<bool>,
    pub allowed_unsafe_sysctls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "duration")]
    pub node_status_update_frequency: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub node_status_report_frequency: Option<Duration>,
    pub node_lease_duration_seconds: Option<u32>,
    #[serde(default)]
    pub crash_loop_back_off: CrashLoopBackOff,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Authentication {
    #[serde(default)]
    pub x509: X509,
    #[serde(default)]
    pub webhook: Enabled,
    #[serde(default)]
    pub anonymous: Enabled,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Enabled {
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Authorization {
    pub mode: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CrashLoopBackOff {
    #[serde(default, deserialize_with = "duration")]
    pub max_container_restart_period: Option<Duration>,
}

/// A duration as Go writes it: `1m30s`, `250ms`.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    api::time::go_duration(&text).map(Some).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no duration")))
}

pub(super) fn read(path: &Path) -> Result<File, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file = parse(&text)
        .map_err(|reason| Error::Flag { flag: "config", reason: format!("{}: {reason}", path.display()) })?;
    // These are what this node agent does anyway.
    let kept =
        |name: &&String| !["metadata", "cgroupDriver", "rotateCertificates", "syncFrequency"].contains(&name.as_str());
    for name in file.others.keys().filter(kept) {
        tracing::warn!(field = name, path = %path.display(), "a field of the kubelet's configuration has no effect");
    }
    Ok(file)
}

fn parse(text: &str) -> Result<File, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    if file.api_version != API_VERSION || file.kind != KIND {
        return Err(format!("it is no {KIND} of {API_VERSION}"));
    }
    if file.others.get("cgroupDriver").is_some_and(|driver| driver != "cgroupfs") {
        return Err("only the cgroupDriver cgroupfs is there".into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused() {
        let head = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        assert!(parse(&head).is_ok());
        let known = parse(&format!("{head}maxPods: 7\nnodeStatusUpdateFrequency: 1m\nnoSuchField: 1\n")).unwrap();
        assert_eq!(known.max_pods, Some(7));
        assert_eq!(known.node_status_update_frequency, Some(Duration::from_secs(60)));
        assert!(known.others.contains_key("noSuchField"));
        for wrong in ["", "kind: Pod", "[", "apiVersion: v1\nkind: KubeletConfiguration"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["maxPods: many", "port: 70000", "imageMinimumGCAge: old", "cgroupDriver: systemd"] {
            assert!(parse(&format!("{head}{wrong}\n")).is_err(), "{wrong}");
        }
    }
}
