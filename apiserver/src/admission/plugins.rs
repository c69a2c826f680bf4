//! The table of plug-ins, in upstream's order.

use std::sync::Arc;

use daemon::Tasks;

use super::Plugin;
use super::certificates::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest,
};
use super::default_class::{DefaultIngressClass, DefaultStorageClass};
use super::default_toleration_seconds::DefaultTolerationSeconds;
use super::limit_ranger::LimitRanger;
use super::namespace_lifecycle::NamespaceLifecycle;
use super::node_restriction::NodeRestriction;
use super::persistent_volume_claim_resize::PersistentVolumeClaimResize;
use super::pod_certificates::PodCertificateSigning;
use super::pod_security::PodSecurity;
use super::pod_topology_labels::PodTopologyLabels;
use super::priority::Priority;
use super::rbac_escalation::RbacEscalation;
use super::resource_quota::ResourceQuota;
use super::runtime_class::RuntimeClass;
use super::service_account::ServiceAccount;
use super::storage_object_in_use_protection::StorageObjectInUseProtection;
use super::taint_nodes_by_condition::TaintNodesByCondition;
use crate::authorize::Union;
use crate::authorize::rbac::Rbac;
use crate::config::AdmissionSettings;
use crate::objects::Handle;

/// What plug-ins are made of.
struct Parts<'a> {
    settings: &'a AdmissionSettings,
    objects: &'a Handle,
    authorizer: &'a Union,
    tasks: &'a Tasks,
}

type Make = fn(&Parts<'_>) -> Arc<dyn Plugin>;

/// Name, whether it is on by default, how it is made.
const TABLE: &[(&str, bool, Make)] = &[
    ("NamespaceLifecycle", true, |parts| Arc::new(NamespaceLifecycle::new(parts.objects.clone()))),
    ("LimitRanger", true, |parts| Arc::new(LimitRanger(parts.objects.clone()))),
    ("ServiceAccount", true, |parts| Arc::new(ServiceAccount::new(parts.objects.clone()))),
    // Upstream's installers all turn it on; without it, a node could take over others.
    ("NodeRestriction", true, |parts| Arc::new(NodeRestriction::new(parts.objects.clone(), parts.authorizer.clone()))),
    ("TaintNodesByCondition", true, |_| Arc::new(TaintNodesByCondition)),
    ("PodSecurity", true, |parts| Arc::new(PodSecurity(parts.objects.clone()))),
    ("Priority", true, |parts| Arc::new(Priority::new(parts.objects.clone()))),
    ("DefaultTolerationSeconds", true, |parts| Arc::new(DefaultTolerationSeconds::new(parts.settings))),
    ("DefaultStorageClass", true, |parts| Arc::new(DefaultStorageClass(parts.objects.clone()))),
    ("StorageObjectInUseProtection", true, |_| Arc::new(StorageObjectInUseProtection)),
    ("PersistentVolumeClaimResize", true, |parts| Arc::new(PersistentVolumeClaimResize(parts.objects.clone()))),
    ("RuntimeClass", true, |parts| Arc::new(RuntimeClass(parts.objects.clone()))),
    ("CertificateApproval", true, |parts| Arc::new(CertificateApproval(parts.authorizer.clone()))),
    ("CertificateSigning", true, |parts| Arc::new(CertificateSigning(parts.authorizer.clone()))),
    ("ClusterTrustBundleAttest", true, |parts| Arc::new(ClusterTrustBundleAttest(parts.authorizer.clone()))),
    ("CertificateSubjectRestriction", true, |_| Arc::new(CertificateSubjectRestriction)),
    ("DefaultIngressClass", true, |parts| Arc::new(DefaultIngressClass(parts.objects.clone()))),
    ("PodTopologyLabels", true, |parts| Arc::new(PodTopologyLabels(parts.objects.clone()))),
    // The last one: what it has charged is to be stored.
    ("ResourceQuota", true, |parts| Arc::new(ResourceQuota::new(parts.objects.clone(), parts.tasks.clone()))),
];

/// Upstream's plug-ins that have no work here yet: naming them is no error, and worth a word.
const WITHOUT_WORK: &[&str] = &[
    "AlwaysAdmit",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NodeDeclaredFeatureValidator",
    "PodGroupProtection",
    "PodResizeValidator",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// The plug-ins that run. Whether a role may grant what it grants and who signs for pods is always looked at, and first:
/// those are no plug-ins of upstream's, but part of its storage.
///
/// # Errors
/// With the name of a plug-in that does not exist.
pub fn plugins(
    settings: &AdmissionSettings,
    objects: &Handle,
    authorizer: &Union,
    rbac: &Rbac,
    tasks: &Tasks,
) -> Result<Vec<Arc<dyn Plugin>>, String> {
    let is_known = |name: &str| WITHOUT_WORK.contains(&name) || TABLE.iter().any(|(known, ..)| *known == name);
    let named = settings.enabled.iter().chain(&settings.disabled);
    if let Some(unknown) = named.into_iter().find(|name| !is_known(name)) {
        return Err(unknown.clone());
    }
    for name in settings.enabled.iter().filter(|name| WITHOUT_WORK.contains(&name.as_str())) {
        tracing::warn!(name, "this admission plug-in is known and does nothing in this server");
    }
    let is_on = |name: &str, by_default: bool| {
        let named = |list: &[String]| list.iter().any(|one| one == name);
        named(&settings.enabled) || by_default && !named(&settings.disabled)
    };
    let parts = Parts { settings, objects, authorizer, tasks };
    let chosen = TABLE.iter().filter(|(name, by_default, _)| is_on(name, *by_default));
    let escalation: Arc<dyn Plugin> = Arc::new(RbacEscalation::new(rbac.clone(), authorizer.clone()));
    let signing: Arc<dyn Plugin> = Arc::new(PodCertificateSigning(authorizer.clone()));
    Ok([escalation, signing].into_iter().chain(chosen.map(|(_, _, make)| make(&parts))).collect())
}
