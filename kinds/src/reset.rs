//! What a request at a path cannot change, whatever it says, and so gives nobody the ownership of: upstream's reset fields.

use api::apply::Reset;

const STATUS: &[&[&str]] = &[&["status"]];
const SPEC: &[&[&str]] = &[&["spec"]];
const SPEC_AND_METADATA: &[&[&str]] = &[&["metadata"], &["spec"]];

/// Kinds whose status is written without metadata.
const STATUS_ALONE: [(&str, &str); 15] = [
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("internal.apiserver.k8s.io", "storageversions"),
    ("networking.k8s.io", "servicecidrs"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourcepoolstatusrequests"),
    ("scheduling.k8s.io", "podgroups"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
    ("storagemigration.k8s.io", "storageversionmigrations"),
];

/// The paths of a resource's object that a write at a subresource leaves as they are; `has_status` says whether the
/// resource has the subresource `status`.
pub fn fields(group: &str, resource: &str, subresource: &str, has_status: bool) -> Reset {
    match (group, resource, subresource) {
        ("certificates.k8s.io", "certificatesigningrequests", "") => Reset::Below(&[&["spec"], &["status"]]),
        ("certificates.k8s.io", "certificatesigningrequests", "status") => {
            Reset::Below(&[&["spec"], &["status", "conditions"]])
        }
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            Reset::Below(&[&["spec"], &["status", "certificate"]])
        }
        ("", "namespaces", "finalize") => Reset::Below(STATUS),
        ("", "pods", "ephemeralcontainers") => Reset::AllBut(&[&[Some("spec"), Some("ephemeralContainers")]]),
        ("", "pods", "resize") => Reset::AllBut(&[
            &[Some("spec"), Some("containers"), None, Some("resources")],
            &[Some("spec"), Some("containers"), None, Some("resizePolicy")],
            &[Some("spec"), Some("initContainers"), None, Some("resources")],
            &[Some("spec"), Some("initContainers"), None, Some("resizePolicy")],
        ]),
        ("", "pods", "status") => {
            Reset::Below(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
        }
        ("apps", "deployments", "status") => Reset::Below(&[&["spec"], &["metadata", "labels"]]),
        (_, _, "status") if STATUS_ALONE.contains(&(group, resource)) => Reset::Below(SPEC_AND_METADATA),
        (_, _, "status") => Reset::Below(SPEC),
        (_, _, "") if has_status => Reset::Below(STATUS),
        _ => Reset::Nothing,
    }
}
