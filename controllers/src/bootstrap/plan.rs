//! Which tokens sign, what a signature is, and when a token expires. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

pub(super) const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
const SIGNED: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

fn field<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let value = secret.data.as_ref()?.get(name)?;
    std::str::from_utf8(&value.0).ok().filter(|text| !text.is_empty())
}

/// How long a token is still valid; nothing when it does not expire. One whose expiry cannot be read has expired.
pub(super) fn expires_in(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let text = field(secret, "expiration")?;
    let Ok(expiry) = text.parse::<Timestamp>() else { return Some(Duration::ZERO) };
    Some(Duration::try_from(expiry.duration_since(now)).unwrap_or_default())
}

/// Id and secret of a token that signs.
fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, value) = (field(secret, "token-id")?, field(secret, "token-secret")?);
    let named = secret.metadata.name.as_deref().and_then(|name| name.strip_prefix(NAME_PREFIX)) == Some(id);
    let wanted = field(secret, "usage-bootstrap-signing") == Some("true");
    let expired = expires_in(secret, now) == Some(Duration::ZERO);
    (secret.type_.as_deref() == Some(TYPE) && named && wanted && !expired).then_some((id, value))
}

/// The map with a signature by each token and no others, if that changes it.
pub(super) fn sign(map: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Option<ConfigMap> {
    let data = map.data.as_ref()?;
    let content = data.get(SIGNED)?;
    let mut wanted: BTreeMap<String, String> = data
        .iter()
        .filter(|(name, _)| !name.starts_with(SIGNATURE_PREFIX))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    for (id, secret) in tokens.iter().filter_map(|token| signing(token, now)) {
        wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature(content, id, secret));
    }
    (wanted != *data).then(|| ConfigMap { data: Some(wanted), ..map.clone() })
}

/// A JSON web signature whose content is left out: whoever checks it has that.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(id: &str, more: Value) -> Arc<Secret> {
        let mut value = json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": TYPE, "data": {
            "token-id": id, "token-secret": "secret", "usage-bootstrap-signing": "true"}});
        json_patch::merge(&mut value, &more);
        for value in value["data"].as_object_mut().unwrap().values_mut() {
            *value = json!(base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap()));
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn known_signature() {
        // As another implementation of HS256 answers.
        let expected = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";
        assert_eq!(signature("content", "abcdef", "0123456789abcdef"), expected);
    }

    #[test]
    fn only_valid_tokens_sign() {
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"kubeconfig": "c", "jws-kubeconfig-gone": "x"}})).unwrap();
        let tokens = [
            token("good", json!({})),
            token("later", json!({"data": {"expiration": "2024-01-02T00:00:00Z"}})),
            token("expired", json!({"data": {"expiration": "2023-01-02T00:00:00Z"}})),
            token("other", json!({"data": {"usage-bootstrap-signing": "false"}})),
            token("named", json!({"metadata": {"name": "bootstrap-token-x"}})),
        ];
        let signed = sign(&map, &tokens, now).unwrap();
        let names: Vec<_> = signed.data.as_ref().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["jws-kubeconfig-good", "jws-kubeconfig-later", "kubeconfig"]);
        assert!(sign(&signed, &tokens, now).is_none());
        let left = tokens.iter().map(|it| expires_in(it, now).map(|it| it.as_secs())).collect::<Vec<_>>();
        assert_eq!(left, [None, Some(86_400), Some(0), None, None]);
    }
}
