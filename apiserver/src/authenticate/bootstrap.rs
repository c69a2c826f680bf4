//! Bootstrap tokens: Secrets in `kube-system` that let a new node ask for its certificate.

use api::{Value, meta};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pki::BootstrapToken;

use crate::objects::{Objects, Ref};
use crate::request::User;

const GROUP: &str = "system:bootstrappers";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Whose bootstrap token it is; None when it is no such token, or not a valid one.
pub(super) fn user(token: &str, objects: &dyn Objects, now: Timestamp) -> Option<User> {
    let token: BootstrapToken = token.parse().ok()?;
    let secret = objects.get(Ref::namespaced("", "secrets", "kube-system", &token.secret_name()))?;
    let is_valid = secret.get("type").and_then(Value::as_str) == Some(TYPE)
        && !meta::is_terminating(&secret)
        && same(&data(&secret, "token-secret"), token.secret())
        && data(&secret, "token-id") == token.id()
        && !has_expired(&secret, now)
        && data(&secret, "usage-bootstrap-authentication") == "true";
    if !is_valid {
        return None;
    }
    let extra = data(&secret, "auth-extra-groups");
    let mut groups: Vec<String> = extra.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect();
    if groups.iter().any(|group| !group.starts_with("system:bootstrappers:")) {
        return None;
    }
    groups.push(GROUP.to_owned());
    groups.sort();
    groups.dedup();
    Some(User { name: token.user(), groups, ..User::default() })
}

fn data(secret: &Value, key: &str) -> String {
    let encoded = secret.get("data").and_then(|data| data.get(key)).and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// An expiration that cannot be read counts as passed.
fn has_expired(secret: &Value, now: Timestamp) -> bool {
    let text = data(secret, "expiration");
    !text.is_empty() && text.parse::<Timestamp>().map_or(true, |end| end <= now)
}

/// Compares without telling by its duration where the texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}
