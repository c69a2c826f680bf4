//! Authorization: may this user do this? Answered from indexes in memory, without I/O.
//!
//! Authorizers stand in a [`Union`]; the first one with an opinion decides, and silence is a no.

pub mod node;
pub mod rbac;
mod rule;

use std::sync::Arc;

use api::Status;

pub use self::rule::{Rule, quoted};
use crate::request::User;

/// What an authorizer is asked.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// `get`, `create`, ... and words of resources' own, such as `bind`, `escalate`, `impersonate`, `sign`.
    pub verb: &'a str,
    /// On what.
    pub target: Target<'a>,
}

/// What is acted on.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A resource.
    Resource(Resource<'a>),
    /// Any other path.
    Path(&'a str),
}

/// A resource, or an object of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    /// Empty for core.
    pub group: &'a str,
    /// The version; no authorizer here decides by it.
    pub version: &'a str,
    /// Empty at cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for a collection.
    pub name: &'a str,
    /// The field selector of a list or watch, as sent.
    pub fields: &'a str,
    /// The label selector of a list or watch, as sent.
    pub labels: &'a str,
}

/// An opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, whatever others think.
    Allow,
    /// No, whatever others think.
    Deny,
    /// Somebody else has to know.
    NoOpinion,
}

/// An opinion with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The opinion.
    pub decision: Decision,
    /// For people; part of a refusal's message.
    pub reason: String,
    /// What could not be looked at, such as a missing role.
    pub error: String,
}

impl Ruling {
    /// Yes.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self { decision: Decision::Allow, reason: reason.into(), error: String::new() }
    }

    /// Nothing known.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self { decision: Decision::NoOpinion, reason: reason.into(), error: String::new() }
    }

    /// It is a yes.
    pub fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// What a user may do on resources, as in a `SelfSubjectRulesReview`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules in the shape of `PolicyRule`, resources first.
    pub resources: Vec<api::Value>,
    /// The same for paths.
    pub paths: Vec<api::Value>,
    /// Some authorizer could not tell everything.
    pub incomplete: bool,
    /// Why not.
    pub error: String,
}

/// One source of permissions.
pub trait Authorizer: Send + Sync + 'static {
    /// May this happen?
    fn authorize(&self, attributes: &Attributes<'_>) -> Ruling;

    /// Everything this user may do in a namespace.
    fn rules(&self, user: &User, namespace: &str) -> Rules;
}

/// Authorizers in order, with the names that their reasons carry.
#[derive(Clone)]
pub struct Union(Arc<[(&'static str, Arc<dyn Authorizer>)]>);

impl Union {
    /// The first authorizer is asked first.
    pub fn new(authorizers: Vec<(&'static str, Arc<dyn Authorizer>)>) -> Self {
        Self(authorizers.into())
    }
}

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes<'_>) -> Ruling {
        let mut silent = Ruling::no_opinion("");
        for (name, authorizer) in self.0.iter() {
            let ruling = authorizer.authorize(attributes);
            if ruling.decision != Decision::NoOpinion {
                return ruling;
            }
            if !ruling.reason.is_empty() {
                join(&mut silent.reason, &format!("{name}: {}", ruling.reason), "\n");
            }
            join(&mut silent.error, &ruling.error, "; ");
        }
        silent
    }

    fn rules(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        for rules in self.0.iter().map(|(_, authorizer)| authorizer.rules(user, namespace)) {
            all.resources.extend(rules.resources);
            all.paths.extend(rules.paths);
            all.incomplete |= rules.incomplete;
            join(&mut all.error, &rules.error, ", ");
        }
        all
    }
}

fn join(all: &mut String, more: &str, separator: &str) {
    if more.is_empty() {
        return;
    }
    if !all.is_empty() {
        all.push_str(separator);
    }
    all.push_str(more);
}

/// The group that may do anything.
pub const MASTERS: &str = "system:masters";

/// Lets [`MASTERS`] do anything. First in every union, so that no broken role locks the cluster's owner out.
pub struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, attributes: &Attributes<'_>) -> Ruling {
        if attributes.user.groups.iter().any(|group| group == MASTERS) {
            return Ruling::allow("");
        }
        Ruling::no_opinion("")
    }

    fn rules(&self, _user: &User, _namespace: &str) -> Rules {
        Rules::default()
    }
}

/// Lets everybody do anything: `--authorization-mode=AlwaysAllow`.
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _attributes: &Attributes<'_>) -> Ruling {
        Ruling::allow("")
    }

    fn rules(&self, _user: &User, _namespace: &str) -> Rules {
        let [resources, paths] = Rule::full_authority();
        Rules { resources: vec![resources.to_value()], paths: vec![paths.to_value()], ..Rules::default() }
    }
}

/// Lets nobody do anything: `--authorization-mode=AlwaysDeny`.
pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _attributes: &Attributes<'_>) -> Ruling {
        Ruling::no_opinion("Everything is forbidden.")
    }

    fn rules(&self, _user: &User, _namespace: &str) -> Rules {
        Rules::default()
    }
}

/// The refusal of a request that nobody allowed, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let (user, verb) = (&attributes.user.name, attributes.verb);
    let (group, resource, name, what) = match &attributes.target {
        Target::Path(path) => ("", "", "", format!("User {user:?} cannot {verb} path {path:?}")),
        Target::Resource(asked) => {
            let slash = if asked.subresource.is_empty() { "" } else { "/" };
            let full = format!("{}{slash}{}", asked.resource, asked.subresource);
            let scope = match asked.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let what = format!("User {user:?} cannot {verb} resource {full:?} in API group {:?} {scope}", asked.group);
            (asked.group, asked.resource, asked.name, what)
        }
    };
    let mut why = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let mut status = Status::forbidden(group, resource, name, &why);
    if resource.is_empty() {
        status.message = format!("forbidden: {why}");
    }
    status
}
