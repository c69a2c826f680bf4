//! The files of volumes made of API objects: config maps, secrets, the downward API, tokens, trust anchors, certificates.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection, Secret,
    SecretVolumeSource, Volume, VolumeProjection,
};

use super::atomic::{File, Files};
use crate::certificates::{Bundle, Place};
use crate::kubelet::Kubelet;
use crate::pod;
use crate::spec::fields::{self, Addresses};

/// Mode of files when the volume names none.
const DEFAULT_MODE: i32 = 0o644;
/// A token or key that its pod's user owns needs no other reader.
const PRIVATE_MODE: u32 = 0o600;

/// The directory name of the volume's plug-in; none for what is not made of files.
pub(super) fn plugin(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        Some("configmap")
    } else if volume.secret.is_some() {
        Some("secret")
    } else if volume.downward_api.is_some() {
        Some("downward-api")
    } else if volume.projected.is_some() {
        Some("projected")
    } else {
        None
    }
}

/// Reads the objects and lays their contents out.
pub(super) async fn collect(
    kubelet: &Kubelet,
    pod: &Pod,
    volume: &Volume,
    pod_ips: &[String],
) -> Result<Files, String> {
    let collector = Collector { kubelet, pod, addresses: kubelet.addresses(pod_ips) };
    if let Some(source) = &volume.config_map {
        return collector.config_map(source).await;
    }
    if let Some(source) = &volume.secret {
        return collector.secret(source).await;
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return collector.downward(source.items.as_deref().unwrap_or_default(), mode);
    }
    let source = volume.projected.clone().unwrap_or_default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut files = Files::new();
    for (index, projection) in source.sources.iter().flatten().enumerate() {
        let made = match &projection.pod_certificate {
            Some(source) => collector.certificate(Place { pod, volume: &volume.name, index }, source, mode).await?,
            None => collector.projection(projection, mode).await?,
        };
        files.extend(made);
    }
    Ok(files)
}

struct Collector<'a> {
    kubelet: &'a Kubelet,
    pod: &'a Pod,
    addresses: Addresses,
}

impl Collector<'_> {
    async fn config_map(&self, source: &ConfigMapVolumeSource) -> Result<Files, String> {
        let found = self.kubelet.objects.config_map(pod::namespace(self.pod), &source.name).await?;
        let optional = source.optional.unwrap_or(false);
        let Some(data) = found.map(|map| config_map_data(&map)) else {
            return missing(optional, format!("configmap {:?} not found", source.name));
        };
        let absent = |key: &str| format!("configmap references non-existent config key: {key}");
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        select(&data, source.items.as_deref(), mode, |key| missing(optional, absent(key)).map(drop))
    }

    async fn secret(&self, source: &SecretVolumeSource) -> Result<Files, String> {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let found = self.kubelet.objects.secret(pod::namespace(self.pod), name).await?;
        let optional = source.optional.unwrap_or(false);
        let Some(data) = found.map(|secret| secret_data(&secret)) else {
            return missing(optional, format!("secret {name:?} not found"));
        };
        let absent = |key: &str| format!("references non-existent secret key: {key}");
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        select(&data, source.items.as_deref(), mode, |key| missing(optional, absent(key)).map(drop))
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<Files, String> {
        let mut files = Files::new();
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                fields::field(self.pod, &field.field_path, &self.addresses)?
            } else if let Some(selector) = &item.resource_field_ref {
                let name = selector.container_name.as_deref().unwrap_or_default();
                let container =
                    pod::find_container(self.pod, name).ok_or_else(|| format!("container {name} not found"))?;
                fields::resource(self.pod, &container, selector, self.kubelet.allocatable())?
            } else {
                continue;
            };
            files.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
        }
        Ok(files)
    }

    async fn projection(&self, projection: &VolumeProjection, mode: i32) -> Result<Files, String> {
        if let Some(source) = &projection.config_map {
            let source = ConfigMapVolumeSource {
                default_mode: Some(mode),
                items: source.items.clone(),
                name: source.name.clone(),
                optional: source.optional,
                ..ConfigMapVolumeSource::default()
            };
            return self.config_map(&source).await;
        }
        if let Some(source) = &projection.secret {
            let source = SecretVolumeSource {
                default_mode: Some(mode),
                items: source.items.clone(),
                secret_name: Some(source.name.clone()),
                optional: source.optional,
                ..SecretVolumeSource::default()
            };
            return self.secret(&source).await;
        }
        if let Some(source) = &projection.downward_api {
            return self.downward(source.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(source) = &projection.service_account_token {
            let token =
                self.kubelet.tokens.get(self.pod, source.audience.as_deref(), source.expiration_seconds).await?;
            return Ok(Files::from([(source.path.clone(), self.private(token.into_bytes(), mode))]));
        }
        if let Some(source) = &projection.cluster_trust_bundle {
            let anchors = self.kubelet.trust.get(source).await?;
            return Ok(Files::from([(source.path.clone(), self.private(anchors, mode))]));
        }
        Err("a projection of this kind is not supported by this node".into())
    }

    async fn certificate(
        &self,
        place: Place<'_>,
        source: &PodCertificateProjection,
        mode: i32,
    ) -> Result<Files, String> {
        let Bundle { private_key, chain } = self.kubelet.certificates.get(self.kubelet, place, source).await?;
        let paths = [
            (&source.credential_bundle_path, [private_key.as_ref(), chain.as_ref()].concat()),
            (&source.key_path, private_key.as_ref().to_owned()),
            (&source.certificate_chain_path, chain.as_ref().to_owned()),
        ];
        let wanted = paths.into_iter().filter_map(|(path, text)| Some((path.clone().filter(|p| !p.is_empty())?, text)));
        Ok(wanted.map(|(path, text)| (path, self.private(text.into_bytes(), mode))).collect())
    }

    /// With one user for the whole pod, the file is that user's alone.
    fn private(&self, bytes: Vec<u8>, mode: i32) -> File {
        let context = pod::spec(self.pod).security_context.as_ref();
        let has_group = context.is_some_and(|context| context.fs_group.is_some());
        let owner = common_user(self.pod).filter(|_| !has_group).and_then(|user| u32::try_from(user).ok());
        let mode = if owner.is_some() || has_group { PRIVATE_MODE } else { u32::try_from(mode).unwrap_or(0o644) };
        File { bytes, mode, owner }
    }
}

/// The user that every container runs as, when they say so and agree.
fn common_user(pod: &Pod) -> Option<i64> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|context| context.run_as_user);
    let own = |c: &k8s_openapi::api::core::v1::Container| c.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = pod::all_containers(pod).map(|container| own(container).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

fn missing(optional: bool, message: String) -> Result<Files, String> {
    if optional { Ok(Files::new()) } else { Err(message) }
}

fn file(bytes: Vec<u8>, mode: i32) -> File {
    File { bytes, mode: u32::try_from(mode).unwrap_or(0o644) & 0o7777, owner: None }
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, ByteString(value))| (key.clone(), value.clone()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, ByteString(value))| (key.clone(), value.clone())).collect()
}

/// Every key as a file, or the chosen keys at their paths; `absent` says what a key is that is not there.
fn select(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    absent: impl Fn(&str) -> Result<(), String>,
) -> Result<Files, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.iter().map(|(key, bytes)| (key.clone(), file(bytes.clone(), mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), file(bytes.clone(), item.mode.unwrap_or(mode)));
            }
            None => absent(&item.key)?,
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn keys_and_paths() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let refuse = |key: &str| Err(format!("no {key}"));
        let all = select(&data, None, 0o644, refuse).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        let item =
            |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o400), ..KeyToPath::default() };
        let some = select(&data, Some(&[item("b")]), 0o644, refuse).unwrap();
        assert_eq!(some["x/y"], file(b"2".to_vec(), 0o400));
        assert_eq!(select(&data, Some(&[item("c")]), 0, refuse), Err("no c".into()));
        assert!(select(&data, Some(&[item("c")]), 0, |_| Ok(())).unwrap().is_empty());
    }

    #[test]
    fn a_user_shared_by_all() {
        for (spec, expected) in [
            (json!({"containers": [{"name": "a"}]}), None),
            (json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "a"}]}), Some(7)),
            (
                json!({"securityContext": {"runAsUser": 7},
                    "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": 8}}]}),
                None,
            ),
        ] {
            assert_eq!(common_user(&pod(spec)), expected);
        }
    }
}
