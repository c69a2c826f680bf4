//! What stands behind a service: shared by the controllers that write it down as Endpoints and as EndpointSlices.

mod trigger;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use reconcile::{Change, Informer, Key, Queue};

pub(crate) use self::trigger::Triggers;
use crate::{context::Context, pods};

pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Services and pods, whose changes queue the services they concern.
#[derive(Clone)]
pub(crate) struct Backends {
    pub(crate) services: Informer<Service>,
    pub(crate) pods: Informer<Pod>,
}

impl Backends {
    pub(crate) fn new(context: &Context, queue: &Queue<Key>) -> Self {
        let backends = Self { services: context.informer(), pods: context.informer() };
        let changed = queue.clone();
        backends.services.handle(move |change| changed.add(Key::of(&**change.object())));
        let (it, changed) = (backends.clone(), queue.clone());
        backends.pods.handle(move |change| it.pod_changed(change, &changed));
        backends
    }

    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
    }

    /// The service, unless its backends are not ours to find: it has no selector or names another host.
    pub(crate) fn service(&self, key: &Key) -> Option<Arc<Service>> {
        self.services.get(&key.namespace, &key.name).filter(|service| {
            let spec = service.spec.as_ref();
            let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
            !external && spec.is_some_and(|spec| spec.selector.as_ref().is_some_and(|it| !it.is_empty()))
        })
    }

    /// The pods that a service selects, ordered by name.
    pub(crate) fn selected(&self, service: &Service) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.list_in(service.metadata.namespace.as_deref().unwrap_or_default());
        pods.retain(|pod| selects(service, pod));
        pods
    }

    fn pod_changed(&self, change: &Change<Pod>, queue: &Queue<Key>) {
        match change {
            Change::Added(pod) | Change::Deleted(pod) => self.wake(queue, pod, |service| selects(service, pod)),
            Change::Updated { old, new } => {
                let relabeled = old.metadata.labels != new.metadata.labels || host(old) != host(new);
                if has_changed(old, new) {
                    self.wake(queue, new, |service| selects(service, new) || selects(service, old));
                } else if relabeled {
                    let moved = old.metadata.labels != new.metadata.labels;
                    self.wake(queue, new, |service| match moved {
                        true => selects(service, new) != selects(service, old),
                        false => selects(service, new),
                    });
                }
            }
        }
    }

    fn wake(&self, queue: &Queue<Key>, pod: &Pod, concerned: impl Fn(&Service) -> bool) {
        let services = self.services.list_in(pod.metadata.namespace.as_deref().unwrap_or_default());
        for service in services.iter().filter(|service| concerned(service)) {
            queue.add(Key::of(&**service));
        }
    }
}

/// Something that decides whether and how a pod is a backend.
fn has_changed(old: &Pod, new: &Pod) -> bool {
    old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || pods::is_ready(old) != pods::is_ready(new)
        || pods::is_terminal(old) != pods::is_terminal(new)
        || ips(old).collect::<Vec<_>>() != ips(new).collect::<Vec<_>>()
}

fn host(pod: &Pod) -> Option<(&Option<String>, &Option<String>)> {
    pod.spec.as_ref().map(|spec| (&spec.hostname, &spec.subdomain))
}

pub(crate) fn ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let list = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    list.iter().map(|it| it.ip.as_str()).filter(|ip| !ip.is_empty())
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return false };
    let labels = pod.metadata.labels.as_ref();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.and_then(|it| it.get(name)) == Some(value))
}

/// The pod has an address and has not ended. One that is being deleted counts if `terminating`.
pub(crate) fn is_backend(pod: &Pod, terminating: bool) -> bool {
    !pods::is_terminal(pod) && ips(pod).next().is_some() && (terminating || pod.metadata.deletion_timestamp.is_none())
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// No cluster address.
pub(crate) fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    address.is_empty() || address == "None"
}

/// The host name that DNS answers for this pod behind this service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let inside = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| inside && !hostname.is_empty())
}

pub(crate) fn service_ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// The number of a pod's port that a service's port leads to. A name is looked up among the pod's containers.
pub(crate) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref()? {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(name) => name,
    };
    let spec = pod.spec.as_ref()?;
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let sidecars = inits.iter().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let find = |container: &Container| {
        let ports = container.ports.as_deref().unwrap_or_default().iter();
        let mut named = ports.filter(|it| it.name.as_ref() == Some(name));
        named.find(|it| it.protocol.as_deref().unwrap_or("TCP") == protocol).map(|it| it.container_port)
    };
    spec.containers.iter().chain(sidecars).find_map(find)
}

/// The service's labels without those that are the controllers' own.
pub(crate) fn labels(service: &Service, reserved: &[&str]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !reserved.contains(&name.as_str()));
    labels
}
