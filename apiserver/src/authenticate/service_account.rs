//! Service-account tokens: made for a TokenRequest, believed while everything they are bound to lives.

use std::net::SocketAddr;

use api::{Status, Value, meta};
use jiff::{SignedDuration, Timestamp};
use pki::{TokenSigner, TokenVerifier, VerifyError};
use serde_json::{Map, json};

use super::{CREDENTIAL_ID, legacy};
use crate::objects::{Objects, Ref};
use crate::request::User;

/// Objects deleted less than this ago still count as alive, as in upstream's JWT library.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// A projected token asks for this lifetime, and gets [`EXTENDED_SECONDS`].
const WARN_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
const EXTRA_PREFIX: &str = "authentication.kubernetes.io";

/// What tokens are made and checked with.
pub struct Settings {
    /// `--service-account-issuer`; the first one signs, all are believed.
    pub issuers: Vec<String>,
    /// `--api-audiences`; the issuers when empty.
    pub audiences: Vec<String>,
    /// Signs new tokens.
    pub signer: TokenSigner,
    /// Believes tokens.
    pub verifier: TokenVerifier,
    /// `--service-account-jwks-uri`; the server's own address when None.
    pub jwks_uri: Option<String>,
    /// `--service-account-extend-token-expiration`.
    pub extend_expiration: bool,
    /// `--service-account-max-token-expiration`, in seconds; 0 is no limit.
    pub max_seconds: i64,
}

/// Makes and checks tokens.
pub struct ServiceAccounts {
    settings: Settings,
    audiences: Vec<String>,
    jwks_uri: String,
}

/// What a new token is bound to.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// `pod`, `node`, `secret` with their names and UIDs.
    pub references: Vec<(&'static str, String, String)>,
    /// A pod is among them.
    pub is_pod: bool,
}

/// Whose token it is, for which of the audiences that were asked about, and what its user is told.
pub(super) struct Believed {
    pub(super) user: User,
    pub(super) audiences: Vec<String>,
    pub(super) warning: Option<&'static str>,
}

impl ServiceAccounts {
    /// See [`Settings`]. `advertise` is where others reach the server.
    pub fn new(settings: Settings, advertise: SocketAddr) -> Self {
        let made = format!("https://{advertise}/openid/v1/jwks");
        let jwks_uri = settings.jwks_uri.clone().unwrap_or(made);
        let audiences =
            if settings.audiences.is_empty() { settings.issuers.clone() } else { settings.audiences.clone() };
        Self { settings, audiences, jwks_uri }
    }

    /// The server's own audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The longest lifetime; 0 is no limit.
    pub fn max_seconds(&self) -> i64 {
        self.settings.max_seconds
    }

    /// A new token for an account.
    ///
    /// # Errors
    /// 500 when it cannot be signed.
    pub fn issue(
        &self,
        account: &Value,
        bound: &Bound,
        audiences: &[String],
        seconds: i64,
        now: Timestamp,
    ) -> Result<String, Status> {
        let (namespace, name) = (meta::namespace(account), meta::name(account));
        let mut private = Map::new();
        private.insert("namespace".to_owned(), json!(namespace));
        private.insert("serviceaccount".to_owned(), json!({"name": name, "uid": meta::uid(account)}));
        for (kind, name, uid) in &bound.references {
            let reference = if uid.is_empty() { json!({"name": name}) } else { json!({"name": name, "uid": uid}) };
            private.insert((*kind).to_owned(), reference);
        }
        let is_own = audiences.iter().all(|audience| self.audiences.contains(audience));
        let extended = self.settings.extend_expiration && bound.is_pod && seconds == WARN_SECONDS && is_own;
        let seconds = if extended { EXTENDED_SECONDS } else { seconds };
        let issued = now.as_second();
        if extended {
            private.insert("warnafter".to_owned(), json!(issued + WARN_SECONDS));
        }
        let claims = json!({
            "iss": self.settings.issuers.first(),
            "sub": user_name(namespace, name),
            "aud": audiences,
            "exp": issued + seconds, "iat": issued, "nbf": issued,
            "jti": crate::request::random_uid(),
            "kubernetes.io": private,
        });
        let failed = |error| Status::internal(format!("failed to generate token: {error}"));
        self.settings.signer.sign(&claims).map_err(failed)
    }

    /// Whose token it is and for which of the audiences; None when it is not ours.
    ///
    /// # Errors
    /// With upstream's text when it is ours and no longer good.
    pub(super) async fn identity(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<Option<Believed>, String> {
        let claims = match self.settings.verifier.verify(token, now) {
            Ok(claims) => claims,
            Err(VerifyError::NotOurs) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let is_legacy = issuer == legacy::ISSUER;
        if !is_legacy && !self.settings.issuers.iter().any(|known| known == issuer) {
            return Ok(None);
        }
        // A token without audiences is for this server alone.
        let own =
            Some(token_audiences(&claims)).filter(|own| !own.is_empty()).unwrap_or_else(|| self.audiences.clone());
        let common: Vec<String> = own.iter().filter(|audience| audiences.contains(audience)).cloned().collect();
        if common.is_empty() {
            let (own, asked) = (crate::authorize::quoted(&own), crate::authorize::quoted(audiences));
            return Err(format!("token audiences {own} is invalid for the target audiences {asked}"));
        }
        if is_legacy {
            let (user, warning) = legacy::check(token, &claims, objects, now).await?;
            return Ok(Some(Believed { user, audiences: common, warning }));
        }
        let user = check(&claims, objects, now).await?;
        Ok(Some(Believed { user, audiences: common, warning: None }))
    }

    /// `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self) -> Value {
        let issuer = self.settings.issuers.first().map(String::as_str).unwrap_or_default();
        json!({
            "issuer": issuer,
            "jwks_uri": self.jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self.settings.verifier.algorithms(),
        })
    }

    /// `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        self.settings.verifier.jwks()
    }
}

/// The user name of an account.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The namespace and name of an account, when the user is one.
pub(crate) fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of every account of a namespace.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

fn token_audiences(claims: &Value) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Everything the token is bound to still exists, under the same UID.
async fn check(claims: &Value, objects: &dyn Objects, now: Timestamp) -> Result<User, String> {
    let private = claims.get("kubernetes.io").cloned().unwrap_or_default();
    let text = |pointer: &str| private.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/namespace"), text("/serviceaccount/name"));
    let account = find(objects, Ref::namespaced("", "serviceaccounts", namespace, name)).await;
    let account = account.ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    let (uid, claimed) = (meta::uid(&account), text("/serviceaccount/uid"));
    if uid != claimed {
        return Err(format!("service account UID ({uid}) does not match claim ({claimed})"));
    }
    if is_gone(&account, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    let secret = Ref::namespaced("", "secrets", namespace, text("/secret/name"));
    check_bound(objects, secret, ["secret", "secret"], text("/secret/uid"), now).await?;
    let pod = Ref::namespaced("", "pods", namespace, text("/pod/name"));
    check_bound(objects, pod, ["pod", "pod"], text("/pod/uid"), now).await?;
    if pod.name.is_empty() {
        let node = Ref::cluster("", "nodes", text("/node/name"));
        check_bound(objects, node, ["node", "node"], text("/node/uid"), now).await?;
    }
    let mut user =
        User { name: user_name(namespace, name), uid: uid.to_owned(), groups: groups(namespace), ..User::default() };
    let mut add = |key: String, value: &str| {
        if !value.is_empty() {
            user.extra.insert(key, vec![value.to_owned()]);
        }
    };
    for (field, pointer) in
        [("pod-name", "/pod/name"), ("pod-uid", "/pod/uid"), ("node-name", "/node/name"), ("node-uid", "/node/uid")]
    {
        add(format!("{EXTRA_PREFIX}/{field}"), text(pointer));
    }
    if let Some(id) = claims.get("jti").and_then(Value::as_str) {
        add(CREDENTIAL_ID.to_owned(), &format!("JTI={id}"));
    }
    Ok(user)
}

async fn check_bound(
    objects: &dyn Objects,
    reference: Ref<'_>,
    [kind, word]: [&str; 2],
    claimed: &str,
    now: Timestamp,
) -> Result<(), String> {
    if reference.name.is_empty() {
        return Ok(());
    }
    let gone = || "service account token has been invalidated".to_owned();
    let object = find(objects, reference).await.ok_or_else(gone)?;
    let uid = meta::uid(&object);
    if uid != claimed {
        let shown = if kind == "pod" { "Pod" } else { kind };
        return Err(format!("{shown} UID ({uid}) does not match service account {word} ref claim ({claimed})"));
    }
    if is_gone(&object, now) { Err(gone()) } else { Ok(()) }
}

/// From the cache, or from the store when the object is younger than the cache.
pub(super) async fn find(objects: &dyn Objects, reference: Ref<'_>) -> Option<std::sync::Arc<Value>> {
    if let Some(found) = objects.get(reference) {
        return Some(found);
    }
    objects.read(reference).await.ok()
}

fn is_gone(object: &Value, now: Timestamp) -> bool {
    let deleted = meta::text(object, "deletionTimestamp").parse::<Timestamp>();
    deleted.is_ok_and(|at| at < now - LEEWAY)
}
