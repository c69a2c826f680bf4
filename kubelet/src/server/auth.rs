//! Who a caller is, and whether it may: certificates here, tokens and permissions at the API server, both remembered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::Failure;
use crate::kubelet::Kubelet;

/// How long answers are remembered, as upstream's defaults.
const TOKEN_FRESH: Duration = Duration::from_secs(120);
const ALLOWED_FRESH: Duration = Duration::from_secs(300);
const DENIED_FRESH: Duration = Duration::from_secs(30);
const MAX_REMEMBERED: usize = 1024;

/// What the TLS handshake said about the caller.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    user: Option<User>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Peer {
    /// The certificate was verified in the handshake, when there is one.
    pub(super) fn of(connection: &rustls::ServerConnection) -> Self {
        let first = connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = first.and_then(|der| pki::Certificate::from_der(der).ok());
        // A certificate without a name says nothing about who shows it.
        let named = certificate.filter(|certificate| !certificate.common_name.is_empty());
        let user = named.map(|certificate| User {
            name: certificate.common_name,
            groups: certificate.organizations,
            ..User::default()
        });
        Self { user }
    }
}

struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Remembered<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let entries = self.0.lock();
        entries.get(key).filter(|(until, _)| *until > daemon::clock::monotonic()).map(|(_, value)| value.clone())
    }

    fn set(&self, key: K, value: V, fresh: Duration) {
        let now = daemon::clock::monotonic();
        let mut entries = self.0.lock();
        if entries.len() >= MAX_REMEMBERED {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() < MAX_REMEMBERED {
            entries.insert(key, (now + fresh, value));
        }
    }
}

/// User, verb, subresource.
type Question = (String, Vec<String>, String, String);

pub(super) struct Access {
    kubelet: Arc<Kubelet>,
    tokens: Remembered<[u8; 32], User>,
    answers: Remembered<Question, bool>,
}

impl Access {
    pub(super) fn new(kubelet: &Arc<Kubelet>) -> Self {
        Self { kubelet: kubelet.clone(), tokens: Remembered::new(), answers: Remembered::new() }
    }

    pub(super) async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, String> {
        if let Some(user) = &peer.user {
            let mut user = user.clone();
            user.groups.push("system:authenticated".into());
            return Ok(user);
        }
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        if let Some(token) = token.filter(|_| self.kubelet.config.server.token_review) {
            return self.review(token).await;
        }
        if self.kubelet.config.server.anonymous {
            let groups = vec!["system:unauthenticated".into()];
            return Ok(User { name: "system:anonymous".into(), groups, ..User::default() });
        }
        Err("no credentials".into())
    }

    async fn review(&self, token: &str) -> Result<User, String> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(user) = self.tokens.get(&key) {
            return Ok(user);
        }
        let api: Api<TokenReview> = Api::all(self.kubelet.client.clone());
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        let status = answer.status.unwrap_or_default();
        let info = status.user.filter(|_| status.authenticated == Some(true)).ok_or("the token is not valid")?;
        let user = User {
            name: info.username.unwrap_or_default(),
            uid: info.uid,
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        };
        self.tokens.set(key, user.clone(), TOKEN_FRESH);
        Ok(user)
    }

    /// Allowed when any of the path's subresources is.
    pub(super) async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Failure> {
        if !self.kubelet.config.server.authorize {
            return Ok(());
        }
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in &subresources {
            match self.may(user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let message = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource(s)=[{}]): {error}",
                        user.name,
                        subresources.join(" ")
                    );
                    return Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Failure(StatusCode::FORBIDDEN, message))
    }

    async fn may(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let key = (user.name.clone(), user.groups.clone(), verb.to_owned(), subresource.to_owned());
        if let Some(answer) = self.answers.get(&key) {
            return Ok(answer);
        }
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.kubelet.config.node_name.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(user.name.clone()),
            groups: Some(user.groups.clone()),
            uid: user.uid.clone(),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.kubelet.client.clone());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.answers.set(key, allowed, if allowed { ALLOWED_FRESH } else { DENIED_FRESH });
        Ok(allowed)
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The subresources of `nodes` that a path asks for, the finest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let mut list = Vec::new();
    for (root, subresource) in
        [("/pods", "pods"), ("/runningpods", "pods"), ("/healthz", "healthz"), ("/configz", "configz")]
    {
        if is_below(path, root) {
            list.push(subresource);
        }
    }
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    list.push(
        coarse.into_iter().find(|(root, _)| is_below(path, root)).map_or("proxy", |(_, subresource)| subresource),
    );
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_of_paths() {
        for (path, expected) in [
            ("/pods", vec!["pods", "proxy"]),
            ("/podsX", vec!["proxy"]),
            ("/healthz/ping", vec!["healthz", "proxy"]),
            ("/stats/summary", vec!["stats"]),
            ("/metrics/resource", vec!["metrics"]),
            ("/exec/ns/p/c", vec!["proxy"]),
            ("/containerLogs/ns/p/c", vec!["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }
}
