//! Who depends on whom. Pure: it is told changes and says what has to be looked at.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{FOREGROUND, ORPHAN};
use crate::discovery::Resource;

pub(super) type Uid = Arc<str>;

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Todo {
    /// Does it have to be deleted, or can it go?
    Check(Uid),
    /// Its dependents have to be taken from it.
    Orphan(Uid),
}

/// An object that has to be looked at, and where to find it.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) resource: Arc<Resource>,
    pub(super) namespace: String,
    pub(super) name: String,
    /// It is being deleted in the foreground.
    pub(super) foreground: bool,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.api.kind, self.namespace, self.name)
    }
}

/// A dependent of something.
#[derive(Clone, Debug)]
pub(super) struct Dependent {
    pub(super) suspect: Suspect,
}

#[derive(Debug)]
struct Node {
    resource: Arc<Resource>,
    namespace: String,
    name: String,
    owners: Vec<Owner>,
    deleting: bool,
    foreground: bool,
    orphaning: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Owner {
    uid: Uid,
    blocks: bool,
}

impl Node {
    fn new(resource: Arc<Resource>, meta: &ObjectMeta) -> Self {
        let deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|it| it == finalizer);
        let owners = meta.owner_references.iter().flatten();
        let owner = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| Owner {
            uid: it.uid.as_str().into(),
            blocks: it.block_owner_deletion.unwrap_or(false),
        };
        Self {
            resource,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owners: owners.map(owner).collect(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
        }
    }

    fn suspect(&self) -> Suspect {
        Suspect {
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            foreground: self.foreground,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
    /// Also of owners that are not known (yet).
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// An object was created or changed.
    pub(super) fn apply(&mut self, resource: &Arc<Resource>, meta: &ObjectMeta) -> Vec<Todo> {
        let Some(uid) = meta.uid.as_deref().map(Uid::from) else { return Vec::new() };
        let node = Node::new(resource.clone(), meta);
        let old = self.nodes.remove(&uid);
        let mut todo = Vec::new();
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        for was in old.iter().flat_map(|old| &old.owners) {
            let now = node.owners.iter().find(|it| it.uid == was.uid);
            if now.is_none() {
                self.unlink(&was.uid, &uid);
            }
            // It may have been the last that its owner waited for.
            let released = was.blocks && now.is_none_or(|now| !now.blocks);
            if released && self.nodes.get(&was.uid).is_some_and(|owner| owner.foreground) {
                todo.push(Todo::Check(was.uid.clone()));
            }
        }
        let was = |state: fn(&Node) -> bool| old.as_ref().is_some_and(state);
        let owners_changed = old.as_ref().is_none_or(|old| old.owners != node.owners);
        let has_doubtful = node.owners.iter().any(|owner| !self.is_solid(&owner.uid));
        if owners_changed && has_doubtful && !node.deleting {
            todo.push(Todo::Check(uid.clone()));
        }
        if node.foreground && !was(|old| old.foreground) {
            todo.extend(self.dependents_of(&uid).map(Todo::Check));
            todo.push(Todo::Check(uid.clone()));
        }
        if node.orphaning && !was(|old| old.orphaning) {
            todo.push(Todo::Orphan(uid.clone()));
        }
        self.nodes.insert(uid, node);
        todo
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Todo> {
        let mut todo: Vec<Todo> = self.dependents_of(uid).map(Todo::Check).collect();
        let Some(node) = self.nodes.remove(uid) else { return todo };
        let uid = Uid::from(uid);
        for owner in node.owners {
            self.unlink(&owner.uid, &uid);
            if self.nodes.get(&owner.uid).is_some_and(|owner| owner.foreground) {
                todo.push(Todo::Check(owner.uid));
            }
        }
        todo
    }

    /// The objects of a resource that a complete list does not have are gone.
    pub(super) fn retain(&mut self, resource: &Resource, listed: &BTreeSet<Uid>) -> Vec<Todo> {
        let is_gone = |(uid, node): &(&Uid, &Node)| node.resource.api == resource.api && !listed.contains(*uid);
        let gone: Vec<Uid> = self.nodes.iter().filter(is_gone).map(|(uid, _)| uid.clone()).collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// An object, if there is reason to look at it: it is not on its way out already, and at least one of its owners is
    /// not known, or going.
    pub(super) fn suspect(&self, uid: &str) -> Option<Suspect> {
        let node = self.nodes.get(uid)?;
        let doubtful = || node.owners.iter().any(|owner| !self.is_solid(&owner.uid));
        let wanted = if node.deleting { node.foreground } else { doubtful() };
        wanted.then(|| node.suspect())
    }

    pub(super) fn get(&self, uid: &str) -> Option<Suspect> {
        self.nodes.get(uid).map(Node::suspect)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let nodes = self.dependents_of(uid).filter_map(|dependent| self.nodes.get(&dependent).map(Node::suspect));
        nodes.map(|suspect| Dependent { suspect }).collect()
    }

    /// The dependents that an object has to wait for.
    pub(super) fn blocking(&self, uid: &str) -> Vec<Uid> {
        let blocks = |dependent: &Uid| {
            let node = self.nodes.get(dependent);
            node.is_some_and(|node| node.owners.iter().any(|owner| &*owner.uid == uid && owner.blocks))
        };
        self.dependents_of(uid).filter(blocks).collect()
    }

    /// Known, and not waiting for its dependents to go.
    fn is_solid(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| !node.foreground)
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned()
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
