//! API objects that a pod depends on. A static pod may have none: it runs without the API, and no authorizer has looked
//! whether it may see them.

use k8s_openapi::api::core::v1::{Pod, Volume, VolumeProjection};

use crate::pod;
use crate::spec::env;

/// The first kind of object that the pod refers to, in the words that upstream refuses it with.
pub(super) fn of(pod: &Pod) -> Option<&'static str> {
    let spec = pod::spec(pod);
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let (mut config_maps, mut secrets) = (false, spec.image_pull_secrets.iter().flatten().next().is_some());
    for container in pod::all_containers(pod) {
        let (maps, others) = env::references(container);
        config_maps |= !maps.is_empty();
        secrets |= !others.is_empty();
    }
    if secrets {
        return Some("secrets");
    }
    if config_maps {
        return Some("configmaps");
    }
    if spec.resource_claims.iter().flatten().next().is_some() {
        return Some("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(of_volume)
}

fn of_volume(volume: &Volume) -> Option<&'static str> {
    let named = [
        (volume.config_map.is_some(), "configmaps (via configmap volumes)"),
        (volume.secret.is_some(), "secrets (via secret volumes)"),
        (volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        (volume.glusterfs.is_some(), "endpoints (via glusterFS volumes)"),
        (volume.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        (volume.ephemeral.is_some(), "persistentvolumeclaims (via ephemeral volumes)"),
        (volume.azure_file.is_some(), "secrets (via azureFile volumes)"),
    ];
    let direct = named.into_iter().find(|(used, _)| *used).map(|(_, words)| words);
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    direct.or_else(|| sources.into_iter().find_map(of_projection))
}

fn of_projection(source: &VolumeProjection) -> Option<&'static str> {
    let named = [
        (source.config_map.is_some(), "configmaps (via projected volumes)"),
        (source.secret.is_some(), "secrets (via projected volumes)"),
        (source.service_account_token.is_some(), "serviceaccounts (via projected volumes)"),
        (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
        (source.pod_certificate.is_some(), "podcertificates"),
    ];
    named.into_iter().find(|(used, _)| *used).map(|(_, words)| words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn what_static_pods_may_not_name() {
        let container = |more: serde_json::Value| {
            let mut one = json!({"name": "c"});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"containers": [one]})
        };
        let volume = |source: serde_json::Value| {
            let mut one = json!({"name": "v"});
            one.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            json!({"containers": [], "volumes": [one]})
        };
        for (spec, expected) in [
            (container(json!({})), None),
            (json!({"containers": [], "serviceAccountName": "a"}), Some("serviceaccounts")),
            (container(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), Some("secrets")),
            (container(json!({"envFrom": [{"configMapRef": {"name": "s"}}]})), Some("configmaps")),
            (volume(json!({"emptyDir": {}})), None),
            (volume(json!({"secret": {"secretName": "s"}})), Some("secrets (via secret volumes)")),
            (volume(json!({"persistentVolumeClaim": {"claimName": "s"}})), Some("persistentvolumeclaims")),
            (volume(json!({"projected": {"sources": [{"downwardAPI": {}}]}})), None),
            (
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
                Some("serviceaccounts (via projected volumes)"),
            ),
        ] {
            assert_eq!(of(&pod(spec.clone())), expected, "{spec}");
        }
    }
}
