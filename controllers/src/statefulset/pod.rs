//! The pod with a number, and its volumes. Pure.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
};
use reconcile::controller_ref;

use crate::pod_control::pod_of;

pub(super) const REVISION_LABEL: &str = "controller-revision-hash";
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The number in the name of a pod that belongs to a set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| plain && set.metadata.name.as_deref() == Some(parent))
}

pub(super) fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|it| it.get(REVISION_LABEL)).map_or("", String::as_str)
}

pub(super) fn make(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let name = format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default());
    let mut pod = pod_of(template, controller_ref(set));
    pod.metadata.generate_name = None;
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    pod.metadata.name = Some(name.clone());
    let volumes: Vec<Volume> =
        claims(set, &pod).into_iter().zip(templates(set)).map(|(claim, it)| volume(it, claim)).collect();
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|name| !name.is_empty());
    let others = spec.volumes.take().unwrap_or_default();
    let is_other = |it: &Volume| volumes.iter().all(|volume| volume.name != it.name);
    let others: Vec<_> = others.into_iter().filter(is_other).collect();
    let all: Vec<_> = volumes.into_iter().chain(others).collect();
    spec.volumes = Some(all).filter(|it| !it.is_empty());
    pod
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

fn volume(template: &PersistentVolumeClaim, claim: PersistentVolumeClaim) -> Volume {
    let source =
        PersistentVolumeClaimVolumeSource { claim_name: claim.metadata.name.unwrap_or_default(), read_only: None };
    Volume {
        name: template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(source),
        ..Volume::default()
    }
}

/// The volume claims of a pod, in the order of the set's templates.
pub(super) fn claims(set: &StatefulSet, pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let owner = pod.metadata.name.clone().unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.status = None;
        claim.metadata.name = Some(format!("{}-{owner}", template.metadata.name.as_deref().unwrap_or_default()));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        claim
    };
    templates(set).iter().map(claim).collect()
}
