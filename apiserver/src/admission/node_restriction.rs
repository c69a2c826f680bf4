//! NodeRestriction: a node writes its own node, lease and pods, and nobody else's. Mirrors upstream's
//! `plugin/pkg/admission/noderestriction`.

mod pod_certificate;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Attributes, Operation, Plugin};
use crate::authorize::node::node_name;
use crate::authorize::{self, Authorizer as _, Resource, Target, Union};
use crate::objects::{Handle, Ref};

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const NODE_SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

pub(super) struct NodeRestriction {
    objects: Handle,
    authorizer: Union,
}

impl NodeRestriction {
    pub(super) fn new(objects: Handle, authorizer: Union) -> Self {
        Self { objects, authorizer }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        let reference = Ref::namespaced("", "pods", namespace, name);
        match self.objects.get().get(reference) {
            Some(pod) => Ok(pod),
            None => self.objects.get().read(reference).await,
        }
    }

    async fn check(&self, node: &str, a: &Attributes<'_>) -> Result<(), Status> {
        if node.is_empty() {
            let user = &a.context.user.name;
            return Err(a.forbidden(&format!("could not determine node from user {user:?}")));
        }
        let refused = match (a.path.group.as_str(), a.path.resource.as_str()) {
            ("", "pods") => return self.check_pods(node, a).await,
            ("", "serviceaccounts") if a.path.subresource == "token" => return self.check_token(node, a).await,
            ("certificates.k8s.io", "podcertificaterequests") => return self.check_certificate(node, a).await,
            ("", "nodes") => check_node(node, a),
            ("", "persistentvolumeclaims") => check_claim(node, a),
            ("coordination.k8s.io", "leases") => check_lease(node, a),
            ("storage.k8s.io", "csinodes") => (a.name() != node)
                .then(|| "can only access CSINode with the same name as the requesting node".to_owned()),
            ("resource.k8s.io", "resourceslices") => check_slice(node, a),
            ("certificates.k8s.io", "certificatesigningrequests") => check_request(node, a),
            _ => None,
        };
        refused.map_or(Ok(()), |why| Err(a.forbidden(&why)))
    }

    async fn check_pods(&self, node: &str, a: &Attributes<'_>) -> Result<(), Status> {
        let refused = match (a.path.subresource.as_str(), a.operation) {
            ("", Operation::Create) => return self.check_mirror(node, a).await,
            ("", Operation::Delete) => {
                let own = a.old.is_some_and(|old| text(old, "/spec/nodeName") == node);
                (!own).then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            }
            ("", other) => Some(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                word(other)
            )),
            ("status", Operation::Update) => check_pod_status(node, a),
            ("eviction", Operation::Create) => {
                let pod = self.pod(&a.path.namespace, a.name()).await?;
                let own = text(&pod, "/spec/nodeName") == node;
                (!own).then(|| format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
            ("status" | "eviction", other) => Some(format!("unexpected operation {:?}", word(other))),
            (other, _) => {
                Some(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
        };
        refused.map_or(Ok(()), |why| Err(a.forbidden(&why)))
    }

    async fn check_mirror(&self, node: &str, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = &a.object else {
            return Ok(());
        };
        if let Some(why) = mirror_refusal(node, pod) {
            return Err(a.forbidden(&why));
        }
        let reference = Ref::cluster("", "nodes", node);
        let object = match self.objects.get().get(reference) {
            Some(object) => object,
            None => self.objects.get().read(reference).await?,
        };
        let (given, uid) = (text(pod, "/metadata/ownerReferences/0/uid"), meta::uid(&object));
        if given != uid {
            return Err(a.forbidden(&format!("node {node} UID mismatch: expected {given} got {uid}")));
        }
        match referenced(pod) {
            Some(what) => Err(a.forbidden(&format!("node {node:?} can not create pods that reference {what}"))),
            None => Ok(()),
        }
    }

    async fn check_token(&self, node: &str, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(request) = a.object.as_ref().filter(|_| a.operation == Operation::Create) else {
            return Ok(());
        };
        let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}"));
        let (name, uid) = (bound("name"), bound("uid"));
        if bound("apiVersion") != "v1" || bound("kind") != "Pod" || name.is_empty() {
            return Err(a.forbidden("node requested token not bound to a pod"));
        }
        if uid.is_empty() {
            return Err(a.forbidden("node requested token with a pod binding without a uid"));
        }
        let pod = self.pod(&a.path.namespace, name).await?;
        if meta::uid(&pod) != uid {
            return Err(a.forbidden(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
                 deleted and then recreated"
            )));
        }
        if text(&pod, "/spec/nodeName") != node {
            return Err(a.forbidden("node requested token bound to a pod scheduled on a different node"));
        }
        self.check_audience(request, &pod, a)
    }

    /// A node asks for the audiences that its pods name, and for others when it has the permission.
    fn check_audience(&self, request: &Value, pod: &Value, a: &Attributes<'_>) -> Result<(), Status> {
        let audiences: Vec<&str> = items(request, "/spec/audiences").filter_map(Value::as_str).collect();
        let audience = match audiences.as_slice() {
            [] => "",
            [one] => one,
            _ => return Err(a.forbidden("node may only request 0 or 1 audiences")),
        };
        if self.names_audience(pod, audience) {
            return Ok(());
        }
        let (namespace, name) = (a.path.namespace.as_str(), a.path.name.as_str());
        let asked = Resource { version: "v1", namespace, resource: audience, name, ..Resource::default() };
        let target = Target::Resource(asked);
        let verb = "request-serviceaccounts-token-audience";
        let attributes = authorize::Attributes { user: &a.context.user, verb, target };
        if self.authorizer.authorize(&attributes).is_allowed() {
            return Ok(());
        }
        Err(a.forbidden(&format!("audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience", a.context.user.name)))
    }

    fn names_audience(&self, pod: &Value, audience: &str) -> bool {
        items(pod, "/spec/volumes").any(|volume| {
            let mut tokens = items(volume, "/projected/sources").filter_map(|source| source.get("serviceAccountToken"));
            if tokens.any(|token| text(token, "/audience") == audience) {
                return true;
            }
            let driver = self.driver_of(pod, volume);
            !driver.is_empty() && self.driver_has(&driver, audience)
        })
    }

    fn driver_of(&self, pod: &Value, volume: &Value) -> String {
        let claim = match text(volume, "/persistentVolumeClaim/claimName") {
            "" if volume.get("ephemeral").is_some() => format!("{}-{}", meta::name(pod), text(volume, "/name")),
            "" => return text(volume, "/csi/driver").to_owned(),
            name => name.to_owned(),
        };
        let objects = self.objects.get();
        let claim = objects.get(Ref::namespaced("", "persistentvolumeclaims", meta::namespace(pod), &claim));
        let volume = claim.map(|claim| text(&claim, "/spec/volumeName").to_owned()).unwrap_or_default();
        let volume = objects.get(Ref::cluster("", "persistentvolumes", &volume));
        volume.map(|volume| text(&volume, "/spec/csi/driver").to_owned()).unwrap_or_default()
    }

    fn driver_has(&self, driver: &str, audience: &str) -> bool {
        let driver = self.objects.get().get(Ref::cluster("storage.k8s.io", "csidrivers", driver));
        driver.is_some_and(|driver| {
            items(&driver, "/spec/tokenRequests").any(|request| text(request, "/audience") == audience)
        })
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Connect && node_name(&attributes.context.user).is_some()
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match node_name(&attributes.context.user) {
            Some(node) => self.check(node, attributes).await,
            None => Ok(()),
        }
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn mirror_refusal(node: &str, pod: &Value) -> Option<String> {
    if meta::annotation(pod, MIRROR).is_none() {
        return Some(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if text(pod, "/spec/nodeName") != node {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners: Vec<&Value> = items(pod, "/metadata/ownerReferences").collect();
    let owner = match owners.as_slice() {
        [one] => one,
        [] => return Some(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Some(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let is_set = |field: &str| owner.get(field).and_then(Value::as_bool).unwrap_or(false);
    if text(owner, "/apiVersion") != "v1" || text(owner, "/kind") != "Node" || text(owner, "/name") != node {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !is_set("controller") {
        return Some(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    is_set("blockOwnerDeletion").then(|| format!("node {node:?} must not set blockOwnerDeletion on an owner reference"))
}

/// An API object that a pod refers to.
fn referenced(pod: &Value) -> Option<&'static str> {
    const VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let has = |value: &Value, table: &[(&str, &'static str)]| {
        table.iter().find(|(field, _)| value.get(field).is_some()).map(|(_, what)| *what)
    };
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let containers = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let containers = || containers.iter().flat_map(|pointer| items(pod, pointer));
    let from = |one: &Value, whole: &str, key: &str| {
        items(one, "/envFrom").any(|source| source.get(whole).is_some())
            || items(one, "/env").any(|variable| meta::find(variable, &format!("/valueFrom/{key}")).is_some())
    };
    if items(pod, "/spec/imagePullSecrets").next().is_some()
        || containers().any(|c| from(c, "secretRef", "secretKeyRef"))
    {
        return Some("secrets");
    }
    if containers().any(|container| from(container, "configMapRef", "configMapKeyRef")) {
        return Some("configmaps");
    }
    if items(pod, "/spec/resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    let in_volume = |volume: &Value| {
        let in_sources = items(volume, "/projected/sources").find_map(|source| has(source, &SOURCES));
        has(volume, &VOLUMES).or(in_sources)
    };
    items(pod, "/spec/volumes").find_map(in_volume)
}

fn check_pod_status(node: &str, a: &Attributes<'_>) -> Option<String> {
    let (Some(new), Some(old)) = (&a.object, a.old) else {
        return None;
    };
    if text(old, "/spec/nodeName") != node {
        return Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    let differs = |pointer: &str| meta::find(new, pointer) != meta::find(old, pointer);
    if differs("/metadata/labels") {
        return Some(format!("node {node:?} cannot update labels through pod status"));
    }
    if differs("/status/resourceClaimStatuses") {
        return Some(format!("node {node:?} cannot update resource claim statues"));
    }
    differs("/status/extendedResourceClaimStatus")
        .then(|| format!("node {node:?} cannot update extended resource claim status"))
}

fn check_node(node: &str, a: &Attributes<'_>) -> Option<String> {
    if a.name() != node {
        return Some(format!("node {node:?} is not allowed to modify node {:?}", a.name()));
    }
    let new = a.object.as_ref()?;
    match (a.operation, a.old) {
        (Operation::Create, _) => {
            if meta::find(new, "/spec/configSource").is_some() {
                return Some(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            let labels = forbidden_labels(new, None)?;
            Some(format!("node {node:?} is not allowed to set the following labels: {labels}"))
        }
        (Operation::Update, Some(old)) => {
            let differs = |pointer: &str| meta::find(new, pointer) != meta::find(old, pointer);
            if meta::find(new, "/spec/configSource").is_some() && differs("/spec/configSource") {
                return Some(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if differs("/spec/taints") {
                return Some(format!("node {node:?} is not allowed to modify taints"));
            }
            if differs("/metadata/ownerReferences") {
                return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let labels = forbidden_labels(new, Some(old))?;
            Some(format!("is not allowed to modify labels: {labels}"))
        }
        _ => None,
    }
}

/// The changed labels that are not a node's to change, joined.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> Option<String> {
    let labels = |object: Option<&Value>| -> BTreeSet<(String, String)> {
        let all = object.into_iter().flat_map(|object| meta::strings(object, "labels"));
        all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let (new, old) = (labels(Some(new)), labels(old));
    let changed: BTreeSet<&str> = new.symmetric_difference(&old).map(|(key, _)| key.as_str()).collect();
    let forbidden: Vec<&str> = changed.into_iter().filter(|key| is_forbidden(key)).collect();
    (!forbidden.is_empty()).then(|| forbidden.join(", "))
}

fn is_forbidden(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |suffix: &str| namespace == suffix || namespace.ends_with(&format!(".{suffix}"));
    let is_own = OWN_LABELS.contains(&key) || OWN_NAMESPACES.iter().any(|own| within(own));
    within(RESTRICTED) || (within("kubernetes.io") || within("k8s.io")) && !is_own
}

fn check_claim(node: &str, a: &Attributes<'_>) -> Option<String> {
    if a.path.subresource != "status" {
        return Some("may only update PVC status".to_owned());
    }
    let (Some(new), Some(old)) = (&a.object, a.old) else {
        return Some(format!("unexpected operation {:?}", word(a.operation)));
    };
    let stripped = |claim: &Value| {
        let mut claim = claim.clone();
        meta::set(&mut claim, "resourceVersion", Value::Null);
        meta::set(&mut claim, "managedFields", Value::Null);
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                status.remove(field);
            }
        }
        claim
    };
    (stripped(new) != stripped(old)).then(|| {
        format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions")
    })
}

fn check_lease(node: &str, a: &Attributes<'_>) -> Option<String> {
    if a.path.namespace != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    let name = if a.operation == Operation::Create { a.object.as_ref().map_or("", meta::name) } else { a.name() };
    (name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

fn check_slice(node: &str, a: &Attributes<'_>) -> Option<String> {
    let (slice, word) = match a.operation {
        Operation::Create => (a.object.as_ref()?, "create"),
        Operation::Delete => (a.old?, "delete"),
        _ => return None,
    };
    (text(slice, "/spec/nodeName") != node)
        .then(|| format!("can only {word} ResourceSlice with the same NodeName as the requesting node"))
}

fn check_request(node: &str, a: &Attributes<'_>) -> Option<String> {
    let request = a.object.as_ref().filter(|_| a.operation == Operation::Create)?;
    if !NODE_SIGNERS.contains(&text(request, "/spec/signerName")) {
        return None;
    }
    let pem = STANDARD.decode(text(request, "/spec/request")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(parsed) = pem.and_then(|pem| pki::CertificateRequest::from_pem(&pem).ok()) else {
        return Some("unable to parse csr: PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let own = format!("system:node:{node}");
    (parsed.common_name != own).then(|| format!("can only create a node CSR with CN={own}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    meta::find(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    meta::find(value, pointer).and_then(Value::as_array).into_iter().flatten()
}
