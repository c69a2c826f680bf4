//! Impersonation: a user who may acts as somebody else. Mirrors upstream's `filters/impersonation`.

use std::sync::Arc;

use api::Status;
use http::header::HeaderName;
use percent_encoding::percent_decode_str;

use super::{Attributes, HeaderMap, Resource, Union, User, authorize, headers};
use crate::authenticate::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups, split_user_name};
use crate::authorize::Authorizer as _;

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that a request acts as: the one asked for, when `requestor` may, else `requestor`. The headers are removed.
pub(super) fn user(headers: &mut HeaderMap, requestor: Arc<User>, authorizer: &Union) -> Result<Arc<User>, Status> {
    let name = headers::text(headers, USER).to_owned();
    let groups: Vec<String> = values(headers, &GROUP);
    let uid = headers::text(headers, UID).to_owned();
    let extra = extras(headers);
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(requestor);
        }
        return Err(Status::bad_request(format!(
            "requested {} without impersonating a user",
            described(&groups, &extra, &uid)
        )));
    }
    let gate = Gate { requestor: &requestor, authorizer };
    match split_user_name(&name) {
        Some((namespace, account)) => {
            gate.check(Resource { namespace, resource: "serviceaccounts", name: account, ..Resource::default() })?;
        }
        None => gate.check(Resource { resource: "users", name: &name, ..Resource::default() })?,
    }
    for group in &groups {
        gate.check(Resource { resource: "groups", name: group, ..Resource::default() })?;
    }
    for (key, value) in &extra {
        let resource = Resource { group: AUTHENTICATION, version: "v1", resource: "userextras", ..Resource::default() };
        gate.check(Resource { subresource: key, name: value, ..resource })?;
    }
    if !uid.is_empty() {
        gate.check(Resource {
            group: AUTHENTICATION,
            version: "v1",
            resource: "uids",
            name: &uid,
            ..Resource::default()
        })?;
    }
    let mut acting = User { groups: all_groups(&name, groups), name, uid, ..User::default() };
    for (key, value) in extra {
        acting.extra.entry(key).or_default().push(value);
    }
    remove(headers);
    Ok(Arc::new(acting))
}

struct Gate<'a> {
    requestor: &'a User,
    authorizer: &'a Union,
}

impl Gate<'_> {
    fn check(&self, resource: Resource<'_>) -> Result<(), Status> {
        let target = authorize::Target::Resource(resource);
        let attributes = Attributes { user: self.requestor, verb: "impersonate", target };
        let ruling = self.authorizer.authorize(&attributes);
        if ruling.is_allowed() { Ok(()) } else { Err(authorize::forbidden(&attributes, &ruling.reason)) }
    }
}

/// The groups asked for, else an account's own, and whether the identity is known.
fn all_groups(name: &str, mut groups: Vec<String>) -> Vec<String> {
    if groups.is_empty()
        && let Some((namespace, _)) = split_user_name(name)
    {
        groups = service_account_groups(namespace);
    }
    let has = |groups: &[String], wanted: &str| groups.iter().any(|group| group == wanted);
    if name == ANONYMOUS {
        if !has(&groups, UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !has(&groups, AUTHENTICATED) && !has(&groups, UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    groups
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

fn extras(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut extras = Vec::new();
    for (name, value) in headers {
        let Some(encoded) = name.as_str().strip_prefix(EXTRA_PREFIX) else {
            continue;
        };
        let key = percent_decode_str(encoded).decode_utf8().map_or_else(|_| encoded.to_owned(), |key| key.into_owned());
        extras.extend(value.to_str().ok().map(|value| (key, value.to_owned())));
    }
    extras
}

fn remove(headers: &mut HeaderMap) {
    let is_ours =
        |name: &HeaderName| *name == USER || *name == GROUP || *name == UID || name.as_str().starts_with(EXTRA_PREFIX);
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What was asked for, as Go prints upstream's list of references.
fn described(groups: &[String], extra: &[(String, String)], uid: &str) -> String {
    let reference =
        |kind: &str, name: &str, version: &str, path: &str| format!("{{{kind}  {name}  {version}  {path}}}");
    let api_version = "authentication.k8s.io/v1";
    let mut texts: Vec<String> = groups.iter().map(|group| reference("Group", group, "", "")).collect();
    texts.extend(extra.iter().map(|(key, value)| reference("UserExtra", value, api_version, key)));
    if !uid.is_empty() {
        texts.push(reference("UID", uid, api_version, ""));
    }
    format!("[{}]", texts.join(" "))
}
