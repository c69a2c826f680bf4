//! What a kubelet may do: its own node, and what its pods refer to.
//!
//! Mirrors upstream's `plugin/pkg/auth/authorizer/node`. A node reads a Secret, ConfigMap, claim or service account only
//! while a pod bound to it refers to that object; the [`Graph`] knows which do. Everything that does not depend on an
//! object is decided by the rules of the recorded `system:node` role. What a node may write into its own objects is
//! NodeRestriction's business.

mod graph;

use std::sync::Arc;

use daemon::Tasks;
use futures::StreamExt as _;
use parking_lot::RwLock;

use self::graph::Graph;
pub use self::graph::Kind;
use super::{Attributes, Authorizer, Resource, Rule, Rules, Ruling, Target};
use crate::objects::{Change, Objects};
use crate::request::User;

const NODE_NAME: Option<&str> = Some("spec.nodeName");

/// What the graph follows, and what an object has to have to be of interest.
const FOLLOWED: [(&str, &str, Option<&str>); 5] = [
    ("", "pods", NODE_NAME),
    ("", "persistentvolumes", None),
    ("storage.k8s.io", "volumeattachments", NODE_NAME),
    ("resource.k8s.io", "resourceslices", NODE_NAME),
    ("certificates.k8s.io", "podcertificaterequests", NODE_NAME),
];

/// The name of the node that a user is; None for a user that is no node. Empty when the user claims to be a node
/// but its name does not say which.
pub fn node_name(user: &User) -> Option<&str> {
    let is_node = user.groups.iter().any(|group| group == "system:nodes");
    user.name.strip_prefix("system:node:").filter(|_| is_node)
}

/// The permissions of nodes. Clones share the graph.
#[derive(Clone)]
pub struct Node {
    graph: Arc<RwLock<Graph>>,
    rules: Arc<[Rule]>,
}

impl Node {
    /// `rules` are those of the `system:node` role.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { graph: Arc::default(), rules: rules.into() }
    }

    /// Fills the graph and keeps it up to date until the drain.
    pub fn follow(&self, objects: &dyn Objects, tasks: &Tasks) {
        for (group, resource, path) in FOLLOWED {
            let mut changes = match path {
                Some(path) => objects.changes_with(group, resource, path),
                None => objects.changes(group, resource),
            };
            let (node, drain) = (self.clone(), tasks.drain().clone());
            tasks.spawn("node-graph", async move {
                while let Some(Some(change)) = drain.run(changes.next()).await {
                    node.apply(resource, &change);
                }
            });
        }
    }

    fn apply(&self, resource: &str, change: &Change) {
        match change {
            Change::Put(object) => self.graph.write().put(resource, object),
            Change::Deleted(object) => self.graph.write().remove(resource, object),
            Change::Synced => {}
        }
    }

    fn related(&self, node: &str, kind: Kind, asked: &Resource<'_>) -> Ruling {
        if asked.name.is_empty() {
            return Ruling::no_opinion("No Object name found");
        }
        if self.graph.read().leads_to(node, kind, asked.namespace, asked.name) {
            return Ruling::allow("");
        }
        Ruling::no_opinion(format!("no relationship found between node '{node}' and this object"))
    }

    fn get(&self, node: &str, kind: Kind, verb: &str, asked: &Resource<'_>) -> Ruling {
        if verb != "get" {
            return Ruling::no_opinion("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return Ruling::no_opinion("cannot get subresource");
        }
        self.related(node, kind, asked)
    }

    fn read(&self, node: &str, kind: Kind, verb: &str, asked: &Resource<'_>) -> Ruling {
        if !matches!(verb, "get" | "list" | "watch") {
            return Ruling::no_opinion("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return Ruling::no_opinion("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return Ruling::no_opinion("can only read namespaced object of this type");
        }
        self.related(node, kind, asked)
    }

    fn claim(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
        if asked.subresource != "status" {
            return self.get(node, Kind::Claim, verb, asked);
        }
        if !matches!(verb, "update" | "patch") {
            return Ruling::no_opinion("can only get/update/patch this type");
        }
        self.related(node, Kind::Claim, asked)
    }

    fn service_account(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
        if verb == "get" && asked.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, verb, asked);
        }
        if verb != "create" || asked.name.is_empty() {
            return Ruling::no_opinion("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return Ruling::no_opinion("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, asked)
    }

    fn pod(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
        match (asked.subresource, verb) {
            ("", "get") => self.get(node, Kind::Pod, verb, asked),
            ("", "list" | "watch") if selects(asked, "spec.nodeName", node) => Ruling::allow(""),
            ("", "list" | "watch") if !asked.name.is_empty() => self.related(node, Kind::Pod, asked),
            ("", "list" | "watch") => Ruling::no_opinion("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ruling::allow(""),
            _ => Ruling::no_opinion(""),
        }
    }

    fn slice(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
        if !asked.subresource.is_empty() {
            return Ruling::no_opinion("cannot authorize ResourceSlice subresources");
        }
        match verb {
            "create" => Ruling::allow(""),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::Slice, asked),
            "watch" | "list" | "deletecollection" if selects(asked, "spec.nodeName", node) => Ruling::allow(""),
            "watch" | "list" | "deletecollection" => {
                Ruling::no_opinion("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => Ruling::no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, \
                 deletecollection",
            ),
        }
    }

    /// What a node may ask for is NodeRestriction's business.
    fn certificate_request(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
        if !asked.subresource.is_empty() {
            return Ruling::no_opinion("nodes may not access the status subresource of PodCertificateRequests");
        }
        match verb {
            "create" => Ruling::allow(""),
            "get" => self.related(node, Kind::CertificateRequest, asked),
            "list" | "watch" if selects(asked, "spec.nodeName", node) => Ruling::allow(""),
            "list" | "watch" => {
                Ruling::no_opinion("can only list/watch podcertificaterequests with nodeName field selector")
            }
            _ => Ruling::no_opinion(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn resource(&self, node: &str, verb: &str, asked: &Resource<'_>) -> Option<Ruling> {
        Some(match (asked.group, asked.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, verb, asked),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, verb, asked),
            ("", "persistentvolumeclaims") => self.claim(node, verb, asked),
            ("", "persistentvolumes") => self.get(node, Kind::Volume, verb, asked),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Kind::ResourceClaim, verb, asked),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Kind::Attachment, verb, asked),
            ("", "serviceaccounts") => self.service_account(node, verb, asked),
            ("coordination.k8s.io", "leases") => lease(node, verb, asked),
            ("storage.k8s.io", "csinodes") => csi_node(node, verb, asked),
            ("resource.k8s.io", "resourceslices") => self.slice(node, verb, asked),
            ("certificates.k8s.io", "podcertificaterequests") => self.certificate_request(node, verb, asked),
            ("", "nodes") => own_node(node, verb, asked),
            ("", "pods") => self.pod(node, verb, asked),
            _ => return None,
        })
    }
}

impl Authorizer for Node {
    fn authorize(&self, request: &Attributes<'_>) -> Ruling {
        let Some(node) = node_name(request.user) else {
            return Ruling::no_opinion("");
        };
        if node.is_empty() {
            return Ruling::no_opinion(format!("unknown node for user {:?}", request.user.name));
        }
        if let Target::Resource(asked) = &request.target
            && let Some(ruling) = self.resource(node, request.verb, asked)
        {
            return ruling;
        }
        if self.rules.iter().any(|rule| rule.allows(request)) {
            return Ruling::allow("");
        }
        Ruling::no_opinion("")
    }

    fn rules(&self, user: &User, _namespace: &str) -> Rules {
        if node_name(user).is_none() {
            return Rules::default();
        }
        let error = "node authorizer does not support user rule resolution".to_owned();
        Rules { incomplete: true, error, ..Rules::default() }
    }
}

fn lease(node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Ruling::no_opinion("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return Ruling::no_opinion("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if verb != "create" && asked.name != node {
        return Ruling::no_opinion("can only access node lease with the same name as the requesting node");
    }
    Ruling::allow("")
}

fn csi_node(node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
    match asked.subresource {
        "" => {}
        "status" => return Ruling::no_opinion("CSINode status access requires CSIVolumeHealth feature"),
        _ => return Ruling::no_opinion("cannot authorize CSINode subresources"),
    }
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Ruling::no_opinion("can only get, create, update, patch, or delete a CSINode");
    }
    if verb != "create" && asked.name != node {
        return Ruling::no_opinion("can only access CSINode with the same name as the requesting node");
    }
    Ruling::allow("")
}

fn own_node(node: &str, verb: &str, asked: &Resource<'_>) -> Ruling {
    match (asked.subresource, verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ruling::allow(""),
        ("", "get" | "list" | "watch") if asked.name == node => Ruling::allow(""),
        ("", "get" | "list" | "watch") if asked.name.is_empty() => {
            Ruling::no_opinion(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Ruling::no_opinion(format!("node '{node}' cannot read '{}', only its own Node object", asked.name))
        }
        _ => Ruling::no_opinion(""),
    }
}

/// The field selector requires `field` to be `value`.
fn selects(asked: &Resource<'_>, field: &str, value: &str) -> bool {
    api::selector::FieldSelector::parse(asked.fields).is_ok_and(|selector| selector.exact(field) == Some(value))
}

#[cfg(test)]
mod tests;
