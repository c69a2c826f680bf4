//! Which objects are needed on which nodes, counted by the pods that refer to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::{Value, meta};

/// What an object is to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bound to the node.
    Pod,
    /// Referred to by a pod, or by a volume of one of its claims.
    Secret,
    /// Referred to by a pod.
    ConfigMap,
    /// A persistent volume claim of a pod.
    Claim,
    /// A persistent volume bound to a claim of a pod.
    Volume,
    /// A device claim of a pod.
    ResourceClaim,
    /// A volume attached to the node.
    Attachment,
    /// The account of a pod.
    ServiceAccount,
    /// Devices of the node.
    Slice,
    /// A pod's request for a certificate, made by the node.
    CertificateRequest,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vertex {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Objects to nodes.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// The node and the references of each owner: a pod, an attachment, a slice.
    owners: HashMap<Vertex, (Arc<str>, Vec<Vertex>)>,
    /// How many owners on each node refer to a vertex.
    nodes: HashMap<Vertex, HashMap<Arc<str>, u32>>,
    /// The claim of each bound volume, and the secrets that the volume needs.
    volumes: HashMap<String, (Vertex, Vec<Vertex>)>,
    /// The volumes that need a secret.
    secrets: HashMap<Vertex, HashSet<String>>,
}

impl Graph {
    pub(super) fn put(&mut self, resource: &str, object: &Value) {
        match resource {
            "pods" => self.own(owner(Kind::Pod, object), text(object, "/spec/nodeName"), references(object)),
            "volumeattachments" => {
                self.own(owner(Kind::Attachment, object), text(object, "/spec/nodeName"), Vec::new())
            }
            "resourceslices" => self.own(owner(Kind::Slice, object), text(object, "/spec/nodeName"), Vec::new()),
            "podcertificaterequests" => {
                self.own(owner(Kind::CertificateRequest, object), text(object, "/spec/nodeName"), Vec::new())
            }
            _ => self.put_volume(object),
        }
    }

    pub(super) fn remove(&mut self, resource: &str, object: &Value) {
        match resource {
            "pods" => self.disown(&owner(Kind::Pod, object)),
            "volumeattachments" => self.disown(&owner(Kind::Attachment, object)),
            "resourceslices" => self.disown(&owner(Kind::Slice, object)),
            "podcertificaterequests" => self.disown(&owner(Kind::CertificateRequest, object)),
            _ => self.remove_volume(meta::name(object)),
        }
    }

    /// The object is needed on the node.
    pub(super) fn leads_to(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let vertex = Vertex { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        if kind == Kind::Volume {
            return self.volume_leads_to(node, name);
        }
        if self.nodes.get(&vertex).is_some_and(|nodes| nodes.contains_key(node)) {
            return true;
        }
        let volumes = self.secrets.get(&vertex).into_iter().flatten();
        kind == Kind::Secret && volumes.into_iter().any(|volume| self.volume_leads_to(node, volume))
    }

    fn volume_leads_to(&self, node: &str, volume: &str) -> bool {
        let claim = self.volumes.get(volume).map(|(claim, _)| claim);
        claim.and_then(|claim| self.nodes.get(claim)).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn own(&mut self, owner: Vertex, node: &str, mut references: Vec<Vertex>) {
        references.push(owner.clone());
        let unchanged =
            |(known, known_references): &(Arc<str>, Vec<Vertex>)| &**known == node && *known_references == references;
        if self.owners.get(&owner).is_some_and(unchanged) {
            return;
        }
        self.disown(&owner);
        if node.is_empty() {
            return;
        }
        let node: Arc<str> = node.into();
        for vertex in &references {
            *self.nodes.entry(vertex.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.owners.insert(owner, (node, references));
    }

    fn disown(&mut self, owner: &Vertex) {
        let Some((node, references)) = self.owners.remove(owner) else {
            return;
        };
        for vertex in references {
            let Some(nodes) = self.nodes.get_mut(&vertex) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
            }
            nodes.retain(|_, count| *count > 0);
            if nodes.is_empty() {
                self.nodes.remove(&vertex);
            }
        }
    }

    fn put_volume(&mut self, object: &Value) {
        let name = meta::name(object);
        self.remove_volume(name);
        let claim = text(object, "/spec/claimRef/name");
        if claim.is_empty() {
            return;
        }
        let namespace = text(object, "/spec/claimRef/namespace");
        let secrets = volume_secrets(object, namespace);
        for secret in &secrets {
            self.secrets.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        let claim = Vertex { kind: Kind::Claim, namespace: namespace.to_owned(), name: claim.to_owned() };
        self.volumes.insert(name.to_owned(), (claim, secrets));
    }

    fn remove_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else {
            return;
        };
        for secret in secrets {
            if let Some(volumes) = self.secrets.get_mut(&secret) {
                volumes.remove(name);
            }
            self.secrets.retain(|_, volumes| !volumes.is_empty());
        }
    }
}

fn owner(kind: Kind, object: &Value) -> Vertex {
    Vertex { kind, namespace: meta::namespace(object).to_owned(), name: meta::name(object).to_owned() }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    meta::find(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    meta::find(object, pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What a pod refers to. A mirror pod refers to nothing: a node must not gain access by making one.
fn references(pod: &Value) -> Vec<Vertex> {
    if meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.push(Vertex { kind, namespace: meta::namespace(pod).to_owned(), name: name.to_owned() });
        }
    };
    add(Kind::ServiceAccount, text(pod, "/spec/serviceAccountName"));
    items(pod, "/spec/imagePullSecrets").for_each(|secret| add(Kind::Secret, text(secret, "/name")));
    for containers in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        items(pod, containers).for_each(|container| container_references(container, &mut add));
    }
    items(pod, "/spec/volumes").for_each(|volume| volume_references(pod, volume, &mut add));
    items(pod, "/status/resourceClaimStatuses").for_each(|s| add(Kind::ResourceClaim, text(s, "/resourceClaimName")));
    items(pod, "/spec/resourceClaims").for_each(|claim| add(Kind::ResourceClaim, text(claim, "/resourceClaimName")));
    add(Kind::ResourceClaim, text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
    found
}

fn container_references(container: &Value, add: &mut impl FnMut(Kind, &str)) {
    for source in items(container, "/envFrom") {
        add(Kind::Secret, text(source, "/secretRef/name"));
        add(Kind::ConfigMap, text(source, "/configMapRef/name"));
    }
    for variable in items(container, "/env") {
        add(Kind::Secret, text(variable, "/valueFrom/secretKeyRef/name"));
        add(Kind::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name"));
    }
}

fn volume_references(pod: &Value, volume: &Value, add: &mut impl FnMut(Kind, &str)) {
    const SECRETS: [&str; 10] = [
        "/secret/secretName",
        "/azureFile/secretName",
        "/cephfs/secretRef/name",
        "/cinder/secretRef/name",
        "/flexVolume/secretRef/name",
        "/rbd/secretRef/name",
        "/scaleIO/secretRef/name",
        "/iscsi/secretRef/name",
        "/storageos/secretRef/name",
        "/csi/nodePublishSecretRef/name",
    ];
    SECRETS.iter().for_each(|pointer| add(Kind::Secret, text(volume, pointer)));
    add(Kind::ConfigMap, text(volume, "/configMap/name"));
    add(Kind::Claim, text(volume, "/persistentVolumeClaim/claimName"));
    if volume.get("ephemeral").is_some() {
        add(Kind::Claim, &format!("{}-{}", meta::name(pod), text(volume, "/name")));
    }
    for source in items(volume, "/projected/sources") {
        add(Kind::Secret, text(source, "/secret/name"));
        add(Kind::ConfigMap, text(source, "/configMap/name"));
    }
}

/// The secrets of a volume that its kubelet needs.
fn volume_secrets(volume: &Value, claim_namespace: &str) -> Vec<Vertex> {
    const REFERENCES: [&str; 11] = [
        "/spec/csi/nodePublishSecretRef",
        "/spec/csi/nodeStageSecretRef",
        "/spec/csi/nodeExpandSecretRef",
        "/spec/cephfs/secretRef",
        "/spec/cinder/secretRef",
        "/spec/flexVolume/secretRef",
        "/spec/rbd/secretRef",
        "/spec/scaleIO/secretRef",
        "/spec/iscsi/secretRef",
        "/spec/storageos/secretRef",
        "/spec/azureFile",
    ];
    let secret = |pointer: &&str| {
        let reference = meta::find(volume, pointer)?;
        let name = if pointer.ends_with("azureFile") { "/secretName" } else { "/name" };
        let namespace = ["/namespace", "/secretNamespace"].iter().map(|field| text(reference, field));
        let namespace = namespace.into_iter().find(|own| !own.is_empty()).unwrap_or(claim_namespace);
        let name = Some(text(reference, name)).filter(|name| !name.is_empty())?;
        Some(Vertex { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() })
    };
    REFERENCES.iter().filter_map(secret).collect()
}
