//! Which strategy a resource has. Adding a kind is a file and one line here.

use crate::admission::{bindings::Bindings, policies::Policies, webhooks::Webhooks};
use crate::apps::{
    controller_revision::ControllerRevision, daemon_set::DaemonSet, deployment::Deployment, replica_set::ReplicaSet,
    stateful_set::StatefulSet,
};
use crate::autoscaling::horizontal::HorizontalPodAutoscaler;
use crate::batch::{cron_job::CronJob, job::Job};
use crate::certificates::{
    pod_request::PodCertificateRequest, signing_request::SigningRequest, trust_bundle::TrustBundle,
};
use crate::coordination::lease::{Lease, LeaseCandidate};
use crate::core::{
    config_map::ConfigMap,
    endpoints::Endpoints,
    event::CoreEvent,
    event::Event,
    limit_range::LimitRange,
    namespace::Namespace,
    node::Node,
    persistent_volume::PersistentVolume,
    persistent_volume_claim::PersistentVolumeClaim,
    pod::Pod,
    pod_template::{ComponentStatus, PodTemplate},
    replication_controller::ReplicationController,
    resource_quota::ResourceQuota,
    secret::Secret,
    service::Service,
    service_account::ServiceAccount,
};
use crate::devices::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use crate::discovery::endpoint_slice::EndpointSlice;
use crate::extension::{ApiService, CustomResourceDefinition};
use crate::flow::{level::PriorityLevel, schema::FlowSchema};
use crate::migration::StorageVersionMigration;
use crate::networking::address::{IpAddress, ServiceCidr};
use crate::networking::{ingress::Ingress, ingress_class::IngressClass, network_policy::NetworkPolicy};
use crate::node::RuntimeClass;
use crate::plain::Plain;
use crate::policy::disruption_budget::PodDisruptionBudget;
use crate::rbac::binding::Binding;
use crate::rbac::role::{ClusterRole, Role};
use crate::scheduling::priority_class::PriorityClass;
use crate::storage::{
    capacity::CsiStorageCapacity, classes::StorageClass, classes::VolumeAttributesClass, csi_driver::CsiDriver,
    csi_node::CsiNode, volume_attachment::VolumeAttachment,
};
use crate::strategy::Strategy;

/// The strategy of a built-in resource; a plain one for resources not listed.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match (group, resource) {
        ("", "componentstatuses") => &ComponentStatus,
        ("", "configmaps") => &ConfigMap,
        ("", "endpoints") => &Endpoints,
        ("", "events") => &CoreEvent,
        ("", "limitranges") => &LimitRange,
        ("", "namespaces") => &Namespace,
        ("", "nodes") => &Node,
        ("", "persistentvolumeclaims") => &PersistentVolumeClaim,
        ("", "persistentvolumes") => &PersistentVolume,
        ("", "pods") => &Pod,
        ("", "podtemplates") => &PodTemplate,
        ("", "replicationcontrollers") => &ReplicationController,
        ("", "resourcequotas") => &ResourceQuota,
        ("", "secrets") => &Secret,
        ("", "serviceaccounts") => &ServiceAccount,
        ("", "services") => &Service,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => &Policies { mutating: true },
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => &Bindings { mutating: true },
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => &Webhooks { mutating: true },
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &Policies { mutating: false },
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => &Bindings { mutating: false },
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => &Webhooks { mutating: false },
        ("apiextensions.k8s.io", "customresourcedefinitions") => &CustomResourceDefinition,
        ("apiregistration.k8s.io", "apiservices") => &ApiService,
        ("apps", "controllerrevisions") => &ControllerRevision,
        ("apps", "daemonsets") => &DaemonSet,
        ("apps", "deployments") => &Deployment,
        ("apps", "replicasets") => &ReplicaSet,
        ("apps", "statefulsets") => &StatefulSet,
        ("autoscaling", "horizontalpodautoscalers") => &HorizontalPodAutoscaler,
        ("batch", "cronjobs") => &CronJob,
        ("batch", "jobs") => &Job,
        ("certificates.k8s.io", "certificatesigningrequests") => &SigningRequest,
        ("certificates.k8s.io", "clustertrustbundles") => &TrustBundle,
        ("certificates.k8s.io", "podcertificaterequests") => &PodCertificateRequest,
        ("coordination.k8s.io", "leasecandidates") => &LeaseCandidate,
        ("coordination.k8s.io", "leases") => &Lease,
        ("discovery.k8s.io", "endpointslices") => &EndpointSlice,
        ("events.k8s.io", "events") => &Event,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &FlowSchema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &PriorityLevel,
        ("networking.k8s.io", "ingressclasses") => &IngressClass,
        ("networking.k8s.io", "ingresses") => &Ingress,
        ("networking.k8s.io", "ipaddresses") => &IpAddress,
        ("networking.k8s.io", "networkpolicies") => &NetworkPolicy,
        ("networking.k8s.io", "servicecidrs") => &ServiceCidr,
        ("node.k8s.io", "runtimeclasses") => &RuntimeClass,
        ("policy", "poddisruptionbudgets") => &PodDisruptionBudget,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &Binding::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io", "clusterroles") => &ClusterRole,
        ("rbac.authorization.k8s.io", "rolebindings") => &Binding::ROLE,
        ("rbac.authorization.k8s.io", "roles") => &Role,
        ("resource.k8s.io", "deviceclasses") => &DeviceClass,
        ("resource.k8s.io", "devicetaintrules") => &DeviceTaintRule,
        ("resource.k8s.io", "resourceclaims") => &ResourceClaim,
        ("resource.k8s.io", "resourceclaimtemplates") => &ResourceClaimTemplate,
        ("resource.k8s.io", "resourceslices") => &ResourceSlice,
        ("scheduling.k8s.io", "priorityclasses") => &PriorityClass,
        ("storage.k8s.io", "csidrivers") => &CsiDriver,
        ("storage.k8s.io", "csinodes") => &CsiNode,
        ("storage.k8s.io", "csistoragecapacities") => &CsiStorageCapacity,
        ("storage.k8s.io", "storageclasses") => &StorageClass,
        ("storage.k8s.io", "volumeattachments") => &VolumeAttachment,
        ("storage.k8s.io", "volumeattributesclasses") => &VolumeAttributesClass,
        ("storagemigration.k8s.io", "storageversionmigrations") => &StorageVersionMigration,
        _ => &Plain,
    }
}

/// What to tell who creates an object that is stored and validated, but on which no part of the cluster acts yet.
///
/// The list may only shrink; an object that silently does not protect what it is meant to protect is worse than none.
pub fn idle(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "validatingadmissionpolicies") => {
            "admission policies are stored, but not enforced yet"
        }
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            "admission webhooks are stored, but not called yet"
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            "custom resource definitions are stored, but their resources are not served yet"
        }
        ("autoscaling", "horizontalpodautoscalers") => "horizontal autoscalers are stored, but nothing scales yet",
        ("networking.k8s.io", "networkpolicies") => "network policies are stored, but not enforced yet",
        _ => return None,
    })
}
