//! Impersonation: a user who may acts as somebody else. Mirrors upstream's `filters/impersonation` with its modes: what a mode
//! allows is restricted to a request (`impersonate-on:<mode>:<verb>`) as well as to a user (`impersonate:<mode>`); the legacy
//! mode (`impersonate`) is tried last.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use http::header::HeaderName;
use percent_encoding::percent_decode_str;

use super::{Attributes, HeaderMap, Resource, Union, User, authorize, headers};
use crate::authenticate::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups, split_user_name};
use crate::authorize::{Authorizer as _, Target};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// How somebody acts as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A service account's pod acts as the node it runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    /// The word in verbs; None for the legacy mode, which has none.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::AssociatedNode => Some("associated-node"),
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Legacy => None,
        }
    }
}

/// The user asked for, as in the headers.
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user that a request acts as: the one asked for, when the requestor of `request` may, else the requestor. The headers are
/// removed.
pub(super) fn user(
    headers: &mut HeaderMap,
    requestor: Arc<User>,
    request: &Attributes<'_>,
    authorizer: &Union,
) -> Result<Arc<User>, Status> {
    let wanted = Wanted::read(headers);
    if wanted.name.is_empty() {
        if wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty() {
            return Ok(requestor);
        }
        let text = format!("requested {} without impersonating a user name", wanted.described());
        return Err(Status::bad_request(text));
    }
    remove(headers);
    let gate = Gate { request, authorizer };
    let mut first = None;
    for mode in Mode::ALL.into_iter().filter(|mode| wanted.fits(*mode, &requestor)) {
        match gate.acting(mode, &wanted) {
            Ok(user) => return Ok(Arc::new(user)),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Self {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let (Some(encoded), Ok(value)) = (name.as_str().strip_prefix(EXTRA_PREFIX), value.to_str()) {
                let decoded = percent_decode_str(encoded).decode_utf8();
                let key = decoded.map_or_else(|_| encoded.to_owned(), |key| key.into_owned());
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        let groups = headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok());
        Self {
            name: headers::text(headers, USER).to_owned(),
            uid: headers::text(headers, UID).to_owned(),
            groups: groups.map(str::to_owned).collect(),
            extra,
        }
    }

    fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|node| !node.is_empty())
    }

    /// The mode has an opinion on this user.
    fn fits(&self, mode: Mode, requestor: &User) -> bool {
        let only_name = self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty();
        let is_account = split_user_name(&self.name).is_some();
        match mode {
            Mode::AssociatedNode => {
                let own = requestor.extra.get(NODE_NAME).and_then(|nodes| match nodes.as_slice() {
                    [one] => Some(one.as_str()),
                    _ => None,
                });
                only_name && split_user_name(&requestor.name).is_some() && own.is_some() && own == self.node()
            }
            Mode::ArbitraryNode => only_name && self.node().is_some(),
            Mode::ServiceAccount => only_name && is_account,
            Mode::UserInfo => !is_account && self.node().is_none(),
            Mode::Legacy => true,
        }
    }

    /// As Go prints it.
    fn described(&self) -> String {
        let list = |texts: &[String]| {
            let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            if texts.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", texts.join(", ")) }
        };
        let extra: Vec<String> = self.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
        let extra = match extra.as_slice() {
            [] => "map[string][]string(nil)".to_owned(),
            some => format!("map[string][]string{{{}}}", some.join(", ")),
        };
        let (name, uid, groups) = (&self.name, &self.uid, list(&self.groups));
        format!("&user.DefaultInfo{{Name:{name:?}, UID:{uid:?}, Groups:{groups}, Extra:{extra}}}")
    }
}

struct Gate<'a> {
    request: &'a Attributes<'a>,
    authorizer: &'a Union,
}

impl Gate<'_> {
    fn acting(&self, mode: Mode, wanted: &Wanted) -> Result<User, Status> {
        if let Some(word) = mode.word() {
            let verb = format!("impersonate-on:{word}:{}", self.request.verb);
            self.check(&verb, self.request.target)?;
        }
        let verb = mode.word().map_or_else(|| "impersonate".to_owned(), |word| format!("impersonate:{word}"));
        let groups = self.check_name(mode, &verb, wanted)?;
        let group = if mode == Mode::Legacy { "" } else { AUTHENTICATION };
        let resource = |group, resource, subresource, name| {
            Target::Resource(Resource { group, version: "v1", resource, subresource, name, ..Resource::default() })
        };
        if !wanted.uid.is_empty() {
            self.check(&verb, resource(AUTHENTICATION, "uids", "", &wanted.uid))?;
        }
        for name in &wanted.groups {
            self.check(&verb, resource(group, "groups", "", name))?;
        }
        for (key, values) in &wanted.extra {
            for value in values {
                self.check(&verb, resource(AUTHENTICATION, "userextras", key, value))?;
            }
        }
        Ok(User {
            name: wanted.name.clone(),
            uid: wanted.uid.clone(),
            groups: with_known(&wanted.name, groups),
            extra: wanted.extra.clone(),
        })
    }

    /// Checks the name; the groups that go with it.
    fn check_name(&self, mode: Mode, verb: &str, wanted: &Wanted) -> Result<Vec<String>, Status> {
        let group = if mode == Mode::Legacy { "" } else { AUTHENTICATION };
        let mut asked = Resource { group, version: "v1", resource: "users", name: &wanted.name, ..Resource::default() };
        let mut groups = wanted.groups.clone();
        if let Some(node) = wanted.node().filter(|_| mode != Mode::Legacy) {
            asked.resource = "nodes";
            // A pod acts as whatever node it runs on: the permission does not name one.
            asked.name = if mode == Mode::AssociatedNode { "*" } else { node };
            groups = vec!["system:nodes".to_owned()];
        }
        if let Some((namespace, account)) = split_user_name(&wanted.name) {
            asked = Resource { resource: "serviceaccounts", namespace, name: account, ..asked };
            if groups.is_empty() {
                groups = service_account_groups(namespace);
            }
        }
        self.check(verb, Target::Resource(asked))?;
        Ok(groups)
    }

    fn check(&self, verb: &str, target: Target<'_>) -> Result<(), Status> {
        let attributes = Attributes { user: self.request.user, verb, target };
        let ruling = self.authorizer.authorize(&attributes);
        if ruling.is_allowed() { Ok(()) } else { Err(authorize::forbidden(&attributes, &ruling.reason)) }
    }
}

/// The groups, and the one that says whether the identity is known.
fn with_known(name: &str, mut groups: Vec<String>) -> Vec<String> {
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    let known = if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !has(known) && !has(UNAUTHENTICATED) {
        groups.push(known.to_owned());
    }
    groups
}

fn remove(headers: &mut HeaderMap) {
    let is_ours =
        |name: &HeaderName| *name == USER || *name == GROUP || *name == UID || name.as_str().starts_with(EXTRA_PREFIX);
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
