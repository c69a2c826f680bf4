//! Service-account tokens bound to pods: asked for once, and again when most of their time is over.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::pod;

const DEFAULT_SECONDS: i64 = 3600;
/// A token is renewed at this age even when it would last longer.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

type Key = (String, String, i64);

#[derive(Clone)]
struct Kept {
    token: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

pub(crate) struct Tokens {
    client: Client,
    /// By pod uid, audience and asked-for seconds.
    kept: Mutex<HashMap<Key, Kept>>,
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, kept: Mutex::default() }
    }

    pub(crate) async fn get(&self, pod: &Pod, audience: Option<&str>, seconds: Option<i64>) -> Result<String, String> {
        let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
        let key = (pod::uid(pod).to_owned(), audience.unwrap_or_default().to_owned(), seconds);
        let now = daemon::clock::now();
        let kept = self.kept.lock().get(&key).cloned();
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.renew_at) {
            return Ok(kept.token.clone());
        }
        match (self.request(pod, audience, seconds, now).await, kept) {
            (Ok(fresh), _) => {
                let token = fresh.token.clone();
                self.kept.lock().insert(key, fresh);
                Ok(token)
            }
            // Not renewed yet, and still good.
            (Err(_), Some(kept)) if now < kept.expires_at => Ok(kept.token),
            (Err(error), _) => Err(format!("failed to fetch token: {error}")),
        }
    }

    async fn request(&self, pod: &Pod, audience: Option<&str>, seconds: i64, now: Timestamp) -> Result<Kept, String> {
        let account = pod::spec(pod).service_account_name.clone().filter(|name| !name.is_empty());
        let account = account.unwrap_or_else(|| "default".into());
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod::name(pod).to_owned()),
            uid: Some(pod::uid(pod).to_owned()),
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.filter(|a| !a.is_empty()).map(|a| vec![a.to_owned()]),
                bound_object_ref: Some(bound),
                expiration_seconds: Some(seconds),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await;
        let status = answer.map_err(|error| crate::objects::api_message(&error))?.status;
        let status = status.ok_or("the answer has no status")?;
        let expires_at = status.expiration_timestamp.ok_or("the answer has no expiration")?.0;
        let token = status.token.ok_or("the answer has no token")?;
        Ok(Kept { token, renew_at: renew_at(now, expires_at), expires_at })
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.kept.lock().retain(|(of, _, _), _| of != uid);
    }
}

/// After 80 % of its time, or a day.
fn renew_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let lifetime = Duration::try_from(expires_at.duration_since(now)).unwrap_or_default();
    let age = lifetime.mul_f64(0.8).min(MAX_AGE);
    now.checked_add(age).unwrap_or(expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        assert_eq!(renew_at(at(0), at(1000)), at(800));
        assert_eq!(renew_at(at(0), at(1_000_000)), at(86_400));
        assert_eq!(renew_at(at(1000), at(0)), at(1000));
    }
}
