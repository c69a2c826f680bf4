//! Which strategy a resource has. Adding a kind is a file and one line here.

use crate::apps::{
    controller_revision::ControllerRevision, daemon_set::DaemonSet, deployment::Deployment, replica_set::ReplicaSet,
    stateful_set::StatefulSet,
};
use crate::core::{
    config_map::ConfigMap, endpoints::Endpoints, event::CoreEvent, event::Event, namespace::Namespace, node::Node,
    pod::Pod, replication_controller::ReplicationController, secret::Secret, service::Service,
    service_account::ServiceAccount,
};
use crate::plain::{PathNamed, Plain};
use crate::strategy::Strategy;

/// The strategy of a built-in resource; a plain one for resources not listed.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match (group, resource) {
        ("", "configmaps") => &ConfigMap,
        ("", "endpoints") => &Endpoints,
        ("", "events") => &CoreEvent,
        ("", "namespaces") => &Namespace,
        ("", "nodes") => &Node,
        ("", "pods") => &Pod,
        ("", "replicationcontrollers") => &ReplicationController,
        ("", "secrets") => &Secret,
        ("", "serviceaccounts") => &ServiceAccount,
        ("", "services") => &Service,
        ("apps", "controllerrevisions") => &ControllerRevision,
        ("apps", "daemonsets") => &DaemonSet,
        ("apps", "deployments") => &Deployment,
        ("apps", "replicasets") => &ReplicaSet,
        ("apps", "statefulsets") => &StatefulSet,
        ("events.k8s.io", "events") => &Event,
        ("apiregistration.k8s.io", _) | ("rbac.authorization.k8s.io", _) => &PathNamed,
        _ => &Plain,
    }
}
