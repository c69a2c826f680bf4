//! Tokens of service accounts that are kept in secrets: bound to nothing but their secret, and without an end.
//!
//! Such a token is believed as long as its secret holds it and its account is the one that it was made for. The day of its
//! last use is kept in a label of the secret, so that those that nobody uses can be found and taken out of use.
//!
//! Upstream's `--service-account-lookup` is always on here: a token whose secret is gone is no token.

use api::{Reason, Value, meta};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::service_account::{find, groups, split_user_name};
use crate::objects::{Manager, Objects, Ref};
use crate::request::User;

/// Who issues such tokens, whatever `--service-account-issuer` says.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
const CLAIM: &str = "kubernetes.io/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Said to users of a token that an older release has made for the account unasked.
const UNASKED: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated \
                       secret-based tokens.";
/// How often a label is written anew when somebody else writes the secret at the same time.
const WRITES_MAX: usize = 3;

/// What a token says of itself.
struct Claims<'a> {
    namespace: &'a str,
    secret: &'a str,
    account: &'a str,
    uid: &'a str,
}

impl<'a> Claims<'a> {
    fn read(claims: &'a Value) -> Result<Self, String> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let own = |name: &str| text(&format!("{CLAIM}/{name}"));
        let missing = |name: &str| format!("{name} claim is missing");
        let subject = text("sub").ok_or_else(|| missing("sub"))?;
        let read = Self {
            namespace: own("namespace").ok_or_else(|| missing("namespace"))?,
            secret: own("secret.name").ok_or_else(|| missing("secretName"))?,
            account: own("service-account.name").ok_or_else(|| missing("serviceAccountName"))?,
            uid: own("service-account.uid").ok_or_else(|| missing("serviceAccountUID"))?,
        };
        match split_user_name(subject) {
            Some(parts) if parts == (read.namespace, read.account) => Ok(read),
            _ => Err("sub claim is invalid".to_owned()),
        }
    }
}

/// Whose token it is, and what the user is told. The signature holds.
///
/// # Errors
/// With upstream's text when the token is no longer good.
pub(super) async fn check(
    token: &str,
    claims: &Value,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<(User, Option<&'static str>), String> {
    let claims = Claims::read(claims)?;
    let Claims { namespace, account: name, .. } = claims;
    let secret = find(objects, Ref::namespaced("", "secrets", namespace, claims.secret)).await;
    let Some(secret) = secret.filter(|secret| !meta::is_terminating(secret)) else {
        return Err("Token has been invalidated".to_owned());
    };
    if !holds(&secret, token) {
        return Err("Token does not match server's copy".to_owned());
    }
    let account = find(objects, Ref::namespaced("", "serviceaccounts", namespace, name)).await;
    let account = account.ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if meta::is_terminating(&account) {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    let uid = meta::uid(&account);
    if uid != claims.uid {
        return Err(format!("ServiceAccount UID ({uid}) does not match claim ({})", claims.uid));
    }
    note_use(&secret, objects, now).await;
    if !label(&secret, INVALID_SINCE).is_empty() {
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use \
             tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label \
             from the secret to temporarily allow use of this token",
            secret = claims.secret
        ));
    }
    let listed = account.get("secrets").and_then(Value::as_array).into_iter().flatten();
    let mut listed = listed.filter_map(|reference| reference.get("name").and_then(Value::as_str));
    let warning = listed.any(|listed| listed == claims.secret).then_some(UNASKED);
    let name = super::service_account::user_name(namespace, name);
    Ok((User { name, uid: uid.to_owned(), groups: groups(namespace), ..User::default() }, warning))
}

/// By their hashes, which say nothing of how much of them is alike.
fn holds(secret: &Value, token: &str) -> bool {
    let encoded = secret.pointer("/data/token").and_then(Value::as_str).unwrap_or_default();
    let kept = STANDARD.decode(encoded).unwrap_or_default();
    Sha256::digest(kept) == Sha256::digest(token)
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    meta::label(object, key).unwrap_or_default()
}

/// Writes down that the token is used today. A failure refuses nobody.
async fn note_use(secret: &Value, objects: &dyn Objects, now: Timestamp) {
    let (today, tomorrow) = (api::time::day(now), api::time::day(now + SignedDuration::from_hours(24)));
    // Another server's clock may be ahead.
    if [today.as_str(), &tomorrow].contains(&label(secret, LAST_USED)) {
        return;
    }
    let reference = Ref::namespaced("", "secrets", meta::namespace(secret), meta::name(secret));
    for _ in 0..WRITES_MAX {
        let written = match objects.read(reference).await {
            Ok(current) if meta::uid(&current) == meta::uid(secret) => {
                let mut changed = (*current).clone();
                changed["metadata"]["labels"][LAST_USED] = json!(today);
                objects.update(reference, "", changed, Manager::SERVER).await.map(drop)
            }
            Ok(_) => return,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => return,
            Err(error) if error.reason == Reason::Conflict => {}
            Err(error) => {
                tracing::warn!(%error, secret = reference.name, namespace = reference.namespace, "cannot note a token's use");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
