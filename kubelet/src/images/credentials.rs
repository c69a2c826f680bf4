//! Credentials out of a pod's pull secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::{Pod, Secret};
use reconcile::EventType;
use serde_json::Value;

use crate::events::Events;
use crate::objects::Objects;
use crate::pod;

/// Those that fit the image's registry, in the order of the pod's secrets.
pub(super) async fn for_image(objects: &Objects, pod: &Pod, image: &str, events: &Events<'_>) -> Vec<AuthConfig> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for reference in pod::spec(pod).image_pull_secrets.iter().flatten() {
        match objects.secret(pod::namespace(pod), &reference.name).await {
            Ok(Some(secret)) => found.extend(matching(&secret, image)),
            _ => missing.push(reference.name.clone()),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        events.pod(EventType::Warning, "FailedToRetrieveImagePullSecret", &message);
    }
    found
}

fn matching(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let data = secret.data.as_ref();
    let get = |key: &str| data.and_then(|data| data.get(key)).and_then(|v| serde_json::from_slice::<Value>(&v.0).ok());
    let auths = match (get(".dockerconfigjson"), get(".dockercfg")) {
        (Some(config), _) => config.get("auths").cloned().unwrap_or_default(),
        (None, Some(config)) => config,
        (None, None) => return Vec::new(),
    };
    let entries = auths.as_object().cloned().unwrap_or_default();
    let fits = entries.iter().filter(|(registry, _)| registry_fits(registry, image));
    fits.map(|(_, entry)| auth(entry)).collect()
}

/// `https://host/v1/` and `host/path` both name a prefix of images; docker's hub has many names.
fn registry_fits(registry: &str, image: &str) -> bool {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let host = image.split('/').next().filter(|host| image.contains('/') && host.contains(['.', ':']));
    match host {
        None => matches!(bare, "index.docker.io" | "docker.io" | "registry-1.docker.io"),
        Some(_) => image.strip_prefix(bare).is_some_and(|rest| rest.starts_with(['/', ':', '@'])),
    }
}

fn auth(entry: &Value) -> AuthConfig {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = decoded
        .as_deref()
        .and_then(|pair| pair.split_once(':'))
        .map_or_else(|| (text("username"), text("password")), |(u, p)| (u.to_owned(), p.to_owned()));
    AuthConfig { username: user, password, identity_token: text("identitytoken"), ..AuthConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries() {
        for (registry, image, fits) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("reg.example", "busybox", false),
            ("reg.example", "reg.example/a:1", true),
            ("https://reg.example/", "reg.example/a:1", true),
            ("reg.example/team", "reg.example/team/a", true),
            ("reg.example/team", "reg.example/other/a", false),
            ("reg.exam", "reg.example/a", false),
        ] {
            assert_eq!(registry_fits(registry, image), fits, "{registry} {image}");
        }
    }

    #[test]
    fn encoded_pairs() {
        let entry = serde_json::json!({"auth": STANDARD.encode("u:p:q")});
        let auth = auth(&entry);
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("u", "p:q"));
    }
}
