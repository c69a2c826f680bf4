//! Authentication: who asks?
//!
//! Order: the connection's client certificate, then the bearer token (service account, bootstrap, static file), then
//! anonymous. A token that nobody knows is a 401 even where anonymous requests are served.

mod bootstrap;
mod legacy;
mod service_account;
mod token_file;

use std::collections::HashMap;
use std::sync::Arc;

use api::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use self::service_account::Believed;
pub use self::service_account::{Bound, ServiceAccounts, Settings as ServiceAccountSettings};
pub(crate) use self::service_account::{groups as service_account_groups, split_user_name};
pub use self::token_file::{Error as TokenFileError, TokenFile};
use crate::objects::Handle;
use crate::request::{User, Warnings};

/// Everybody whose identity is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The extra that says which credential was used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// How long a good token is believed without looking again, as upstream.
const TOKEN_CACHE_TTL: SignedDuration = SignedDuration::from_secs(10);
/// The most tokens remembered.
const TOKEN_CACHE_MAX: usize = 4096;
/// The WebSocket subprotocol that carries a token, for browsers.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// A token's owner, and the audiences that both the token and the asker name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: Arc<User>,
    /// For whom the token was made.
    pub audiences: Vec<String>,
    /// What its user is told, with every answer.
    pub warning: Option<&'static str>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom the client certificate names.
    pub user: Arc<User>,
    /// The certificate's end, which the connection may outlive.
    pub not_after: Timestamp,
}

/// What is asked for credentials.
pub struct Config {
    /// Requests without credentials are served, as [`ANONYMOUS`].
    pub anonymous: bool,
    /// Bootstrap tokens are believed.
    pub bootstrap_tokens: bool,
    /// Static tokens.
    pub token_file: Option<TokenFile>,
    /// Service-account tokens.
    pub service_accounts: ServiceAccounts,
}

/// The server's authenticator.
pub struct Authenticator {
    config: Config,
    objects: Handle,
    cache: Mutex<HashMap<[u8; 32], (Identity, Timestamp)>>,
}

impl Authenticator {
    /// Tokens are checked against `objects`.
    pub fn new(config: Config, objects: Handle) -> Self {
        Self { config, objects, cache: Mutex::default() }
    }

    /// The service-account tokens' side, for TokenRequest and the discovery documents.
    pub fn service_accounts(&self) -> &ServiceAccounts {
        &self.config.service_accounts
    }

    /// Who sends these headers over a connection of `peer`. Credentials are removed from the headers, so that no handler
    /// can pass them on.
    ///
    /// # Errors
    /// 401.
    pub async fn request(
        &self,
        headers: &mut HeaderMap,
        peer: Option<&Peer>,
        warnings: &Warnings,
        now: Timestamp,
    ) -> Result<Arc<User>, Status> {
        let token = bearer(headers).or_else(|| websocket_token(headers));
        headers.remove(header::AUTHORIZATION);
        if let Some(peer) = peer.filter(|peer| now <= peer.not_after) {
            return Ok(peer.user.clone());
        }
        let Some(token) = token else {
            // Who had a name is not served without one.
            let anonymous = self.config.anonymous && peer.is_none();
            return if anonymous { Ok(Arc::new(self::anonymous())) } else { Err(Status::unauthorized()) };
        };
        match self.token(&token, self.config.service_accounts.audiences(), now).await {
            Ok(Some(identity)) => {
                identity.warning.into_iter().for_each(|text| warnings.add(text));
                Ok(identity.user)
            }
            Ok(None) => Err(Status::unauthorized()),
            Err(error) => {
                tracing::debug!(error, "refused a token");
                Err(Status::unauthorized())
            }
        }
    }

    /// Whose token it is; None when no source knows it.
    ///
    /// # Errors
    /// When a source knows it and refuses it, with upstream's text.
    pub async fn token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Option<Identity>, String> {
        let key = cache_key(token, audiences);
        if let Some((identity, until)) = self.cache.lock().get(&key)
            && now < *until
        {
            return Ok(Some(identity.clone()));
        }
        let identity = self.look_up(token, audiences, now).await?;
        if let Some(identity) = &identity {
            self.remember(key, identity, now);
        }
        Ok(identity)
    }

    async fn look_up(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Option<Identity>, String> {
        if let Some(user) = self.config.token_file.as_ref().and_then(|file| file.get(token)) {
            return Ok(Some(self.for_server(user.clone(), audiences)));
        }
        if self.config.bootstrap_tokens
            && let Some(user) = bootstrap::user(token, self.objects.get(), now)
        {
            return Ok(Some(self.for_server(user, audiences)));
        }
        let found = self.config.service_accounts.identity(token, audiences, self.objects.get(), now).await?;
        Ok(found.map(|Believed { user, audiences, warning }| Identity {
            user: Arc::new(with_group(user)),
            audiences,
            warning,
        }))
    }

    /// A token without audiences of its own is for this server.
    fn for_server(&self, user: User, audiences: &[String]) -> Identity {
        let own = self.config.service_accounts.audiences();
        let audiences = audiences.iter().filter(|audience| own.contains(audience)).cloned().collect();
        Identity { user: Arc::new(with_group(user)), audiences, warning: None }
    }

    fn remember(&self, key: [u8; 32], identity: &Identity, now: Timestamp) {
        let mut cache = self.cache.lock();
        if cache.len() >= TOKEN_CACHE_MAX {
            cache.retain(|_, (_, until)| now < *until);
        }
        if cache.len() < TOKEN_CACHE_MAX {
            cache.insert(key, (identity.clone(), now + TOKEN_CACHE_TTL));
        }
    }
}

/// Whom a verified client certificate names; None without a common name.
pub fn certificate_user(certificate: &pki::Certificate) -> Option<User> {
    if certificate.common_name.is_empty() {
        return None;
    }
    let id = format!("X509SHA256={}", certificate.fingerprint);
    Some(with_group(User {
        name: certificate.common_name.clone(),
        groups: certificate.organizations.clone(),
        extra: [(CREDENTIAL_ID.to_owned(), vec![id])].into(),
        ..User::default()
    }))
}

fn anonymous() -> User {
    User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() }
}

fn with_group(mut user: User) -> User {
    let special = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
    if user.name != ANONYMOUS && !user.groups.iter().any(special) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// The token among the offered subprotocols, which are sent on without it.
fn websocket_token(headers: &mut HeaderMap) -> Option<String> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let protocols: Vec<&str> = offered.split(',').map(str::trim).collect();
    let encoded = protocols.iter().find_map(|protocol| protocol.strip_prefix(WEBSOCKET_TOKEN))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    let rest: Vec<&str> = protocols.iter().copied().filter(|p| !p.starts_with(WEBSOCKET_TOKEN)).collect();
    let rest = rest.join(", ").parse().ok()?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, rest);
    Some(token)
}

/// Tokens are remembered by hash, so that a memory dump shows none that is no longer in use.
fn cache_key(token: &str, audiences: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(token);
    for audience in audiences {
        hash.update([0]);
        hash.update(audience);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
