//! The config maps and secrets that a pod names, wherever it does. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::pod;
use crate::spec::env;

pub(super) type Names = BTreeSet<String>;

/// Names of config maps, and of secrets. What is empty names nothing.
pub(super) fn of(pod: &Pod) -> (Names, Names) {
    let (mut config_maps, mut secrets) = (Names::new(), Names::new());
    let ephemeral: Vec<_> = pod::ephemeral_containers(pod).iter().map(pod::ephemeral_as_container).collect();
    for container in pod::all_containers(pod).chain(&ephemeral) {
        let (maps, others) = env::references(container);
        config_maps.extend(maps);
        secrets.extend(others);
    }
    let spec = pod::spec(pod);
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.clone()));
    for volume in spec.volumes.iter().flatten() {
        of_volume(volume, &mut config_maps, &mut secrets);
    }
    config_maps.remove("");
    secrets.remove("");
    (config_maps, secrets)
}

fn of_volume(volume: &Volume, config_maps: &mut Names, secrets: &mut Names) {
    config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
    secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for source in projected {
        config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(source.secret.iter().map(|source| source.name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn every_place_that_names_one() {
        let container = |name: &str| {
            json!({"name": name,
                "envFrom": [{"configMapRef": {"name": format!("{name}-from")}}, {"secretRef": {"name": ""}}],
                "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": format!("{name}-key"), "key": "k"}}}]})
        };
        let pod = pod(json!({
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [container("i")], "containers": [container("c")], "ephemeralContainers": [container("e")],
            "volumes": [
                {"name": "a", "configMap": {"name": "map"}},
                {"name": "b", "secret": {"secretName": "secret"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "root-ca"}}, {"secret": {"name": "projected"}}, {"downwardAPI": {}}]}}]}));
        let (config_maps, secrets) = of(&pod);
        assert_eq!(config_maps.into_iter().collect::<Vec<_>>(), ["c-from", "e-from", "i-from", "map", "root-ca"]);
        let expected = ["c-key", "e-key", "i-key", "projected", "pull", "secret"];
        assert_eq!(secrets.into_iter().collect::<Vec<_>>(), expected);
    }
}
