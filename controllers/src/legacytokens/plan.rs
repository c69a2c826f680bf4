//! What a token's secret lacks, and when a token is in nobody's use: pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMap, Container, EnvFromSource, EnvVar, EphemeralContainer, LocalObjectReference, Pod, Secret,
        ServiceAccount, Volume,
    },
};
use serde_json::{Value, json};

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
pub(super) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The entries of a secret.
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const AUTHORITY: &str = "ca.crt";
/// Who issues such tokens, whatever `--service-account-issuer` says.
const ISSUER: &str = "kubernetes/serviceaccount";
const CLAIM: &str = "kubernetes.io/serviceaccount";
/// The tracking map's entry.
const SINCE: &str = "since";

/// The name and UID of the account that a secret names; the UID is "" before the secret is filled.
pub(super) fn account_of(secret: &Secret) -> (&str, &str) {
    let annotation = |key: &str| {
        let all = secret.metadata.annotations.as_ref();
        all.and_then(|all| all.get(key)).map(String::as_str).unwrap_or_default()
    };
    (annotation(ACCOUNT_NAME), annotation(ACCOUNT_UID))
}

/// The secret is the account's of this name and UID.
pub(super) fn belongs(secret: &Secret, name: &str, uid: &str) -> bool {
    let (account, account_uid) = account_of(secret);
    account == name && (account_uid.is_empty() || account_uid == uid)
}

/// The account lists the secret, as it does when the token was made unasked.
pub(super) fn names_secret(account: &ServiceAccount, secret: &str) -> bool {
    account.secrets.iter().flatten().any(|one| one.name.as_deref() == Some(secret))
}

/// The secret with everything that it should hold; None when it holds it.
pub(super) fn filled<E>(
    secret: &Secret,
    account: &ServiceAccount,
    authority: Option<&str>,
    sign: impl FnOnce(&Value) -> Result<String, E>,
) -> Result<Option<Secret>, E> {
    let present = |entry: &str| {
        let all = secret.data.as_ref();
        all.and_then(|all| all.get(entry)).map(|bytes| bytes.0.as_slice()).unwrap_or_default()
    };
    let authority = authority.filter(|pem| !pem.is_empty() && present(AUTHORITY) != pem.as_bytes());
    let (lacks_namespace, lacks_token) = (present(NAMESPACE).is_empty(), present(TOKEN).is_empty());
    if authority.is_none() && !lacks_namespace && !lacks_token {
        return Ok(None);
    }
    let mut filled = secret.clone();
    let data = filled.data.get_or_insert_default();
    let mut put = |entry: &str, text: &str| drop(data.insert(entry.to_owned(), ByteString(text.as_bytes().to_vec())));
    if let Some(pem) = authority {
        put(AUTHORITY, pem);
    }
    if lacks_namespace {
        put(NAMESPACE, secret.metadata.namespace.as_deref().unwrap_or_default());
    }
    if lacks_token {
        put(TOKEN, &sign(&claims(secret, account))?);
    }
    let annotations = filled.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_NAME.to_owned(), account.metadata.name.clone().unwrap_or_default());
    annotations.insert(ACCOUNT_UID.to_owned(), account.metadata.uid.clone().unwrap_or_default());
    Ok(Some(filled))
}

fn claims(secret: &Secret, account: &ServiceAccount) -> Value {
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let name = account.metadata.name.as_deref().unwrap_or_default();
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        format!("{CLAIM}/namespace"): namespace,
        format!("{CLAIM}/secret.name"): secret.metadata.name,
        format!("{CLAIM}/service-account.name"): name,
        format!("{CLAIM}/service-account.uid"): account.metadata.uid,
    })
}

/// What becomes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in use, may be, or was asked for.
    Keep,
    /// It is refused from now on, which can be undone by removing the mark.
    Mark { date: String },
    /// It has been marked for long enough.
    Delete,
}

/// What is long ago: dates as text, which sort as the days do.
pub(super) struct Times {
    today: String,
    created_before: Timestamp,
    used_before: String,
}

impl Times {
    /// None while the use of tokens has not been noted for the whole period. Counts from the end of the first day.
    pub(super) fn new(tracking: &ConfigMap, now: Timestamp, period: Duration) -> Option<Self> {
        let since = tracking.data.as_ref()?.get(SINCE).and_then(|text| api::time::parse_day(text))?;
        let period = SignedDuration::try_from(period).ok()?;
        let long_ago = now.checked_sub(period).ok()?;
        let first = since.checked_add(SignedDuration::from_hours(24)).ok()?;
        (long_ago >= first).then(|| Self {
            today: api::time::day(now),
            created_before: long_ago,
            used_before: api::time::day(long_ago),
        })
    }

    pub(super) fn verdict(
        &self,
        secret: &Secret,
        account: Option<&ServiceAccount>,
        is_used: impl FnOnce() -> bool,
    ) -> Verdict {
        let meta = &secret.metadata;
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let is_old = meta.creation_timestamp.as_ref().is_some_and(|time| time.0 < self.created_before);
        let unused = match label(LAST_USED) {
            None => true,
            // A date that cannot be read says nothing.
            Some(day) => api::time::parse_day(day).is_some() && day < self.used_before.as_str(),
        };
        let name = meta.name.as_deref().unwrap_or_default();
        let made_unasked = account.is_some_and(|account| {
            let uid = account.metadata.uid.as_deref().unwrap_or_default();
            belongs(secret, account.metadata.name.as_deref().unwrap_or_default(), uid) && names_secret(account, name)
        });
        if !is_old || meta.deletion_timestamp.is_some() || !unused || !made_unasked || is_used() {
            return Verdict::Keep;
        }
        match label(INVALID_SINCE).filter(|day| api::time::parse_day(day).is_some()) {
            None => Verdict::Mark { date: self.today.clone() },
            Some(day) if day < self.used_before.as_str() => Verdict::Delete,
            Some(_) => Verdict::Keep,
        }
    }
}

/// The pod names the secret anywhere.
pub(super) fn uses(pod: &Pod, secret: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let pulls = spec.image_pull_secrets.iter().flatten().any(|one| one.name == secret);
    let volumes = spec.volumes.iter().flatten().any(|volume| secrets_of(volume).contains(&Some(secret)));
    let plain = |one: &Container| in_environment(one.env.as_deref(), one.env_from.as_deref(), secret);
    let ephemeral = |one: &EphemeralContainer| in_environment(one.env.as_deref(), one.env_from.as_deref(), secret);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(plain);
    pulls || volumes || containers || spec.ephemeral_containers.iter().flatten().any(ephemeral)
}

fn in_environment(variables: Option<&[EnvVar]>, sources: Option<&[EnvFromSource]>, secret: &str) -> bool {
    let whole = sources.into_iter().flatten().filter_map(|source| source.secret_ref.as_ref()).map(|one| &one.name);
    let entries = variables.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let entries = entries.filter_map(|source| source.secret_key_ref.as_ref()).map(|one| &one.name);
    whole.chain(entries).any(|name| name == secret)
}

fn secrets_of(volume: &Volume) -> Vec<Option<&str>> {
    fn local(reference: Option<&LocalObjectReference>) -> Option<&str> {
        reference.map(|reference| reference.name.as_str())
    }
    let projected = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
    let projected = projected.map(|source| source.secret.as_ref().map(|secret| secret.name.as_str()));
    [
        volume.secret.as_ref().and_then(|it| it.secret_name.as_deref()),
        volume.azure_file.as_ref().map(|it| it.secret_name.as_str()),
        local(volume.cephfs.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.cinder.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.flex_volume.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.rbd.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.scale_io.as_ref().map(|it| &it.secret_ref)),
        local(volume.iscsi.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.storageos.as_ref().and_then(|it| it.secret_ref.as_ref())),
        local(volume.csi.as_ref().and_then(|it| it.node_publish_secret_ref.as_ref())),
    ]
    .into_iter()
    .chain(projected)
    .collect()
}

#[cfg(test)]
mod tests;
