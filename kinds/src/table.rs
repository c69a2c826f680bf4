//! Which strategy a resource has. Adding a kind is a file and one line here.

use crate::apps::{
    controller_revision::ControllerRevision, daemon_set::DaemonSet, deployment::Deployment, replica_set::ReplicaSet,
    stateful_set::StatefulSet,
};
use crate::batch::{cron_job::CronJob, job::Job};
use crate::coordination::lease::{Lease, LeaseCandidate};
use crate::core::{
    config_map::ConfigMap, endpoints::Endpoints, event::CoreEvent, event::Event, namespace::Namespace, node::Node,
    pod::Pod, replication_controller::ReplicationController, secret::Secret, service::Service,
    service_account::ServiceAccount,
};
use crate::discovery::endpoint_slice::EndpointSlice;
use crate::plain::{PathNamed, Plain};
use crate::policy::disruption_budget::PodDisruptionBudget;
use crate::rbac::binding::{ClusterRoleBinding, RoleBinding};
use crate::rbac::role::{ClusterRole, Role};
use crate::scheduling::priority_class::PriorityClass;
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
        ("batch", "cronjobs") => &CronJob,
        ("batch", "jobs") => &Job,
        ("coordination.k8s.io", "leasecandidates") => &LeaseCandidate,
        ("coordination.k8s.io", "leases") => &Lease,
        ("discovery.k8s.io", "endpointslices") => &EndpointSlice,
        ("events.k8s.io", "events") => &Event,
        ("policy", "poddisruptionbudgets") => &PodDisruptionBudget,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &ClusterRoleBinding,
        ("rbac.authorization.k8s.io", "clusterroles") => &ClusterRole,
        ("rbac.authorization.k8s.io", "rolebindings") => &RoleBinding,
        ("rbac.authorization.k8s.io", "roles") => &Role,
        ("scheduling.k8s.io", "priorityclasses") => &PriorityClass,
        ("apiregistration.k8s.io", _) => &PathNamed,
        _ => &Plain,
    }
}
