//! Events about a pod or one of its containers.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use reconcile::{EventType, Recorder};

use crate::pod;

/// Records events about one pod, and about one container of it when named.
pub(crate) struct Events<'a> {
    recorder: &'a Recorder,
    pod: &'a Pod,
    container: Option<&'a str>,
}

impl<'a> Events<'a> {
    pub(crate) fn new(recorder: &'a Recorder, pod: &'a Pod) -> Self {
        Self { recorder, pod, container: None }
    }

    pub(crate) fn of_container(recorder: &'a Recorder, pod: &'a Pod, container: &'a str) -> Self {
        Self { recorder, pod, container: Some(container) }
    }

    pub(crate) fn pod(&self, kind: EventType, reason: &str, message: &str) {
        self.recorder.event_about(reference(self.pod, None), kind, reason, message);
    }

    /// About the container; about the pod when none was named.
    pub(crate) fn container(&self, kind: EventType, reason: &str, message: &str) {
        self.recorder.event_about(reference(self.pod, self.container), kind, reason, message);
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(|name| pod::field_path(pod, name)),
    }
}
