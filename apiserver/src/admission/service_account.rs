//! ServiceAccount: every pod has an account, its token and its pull secrets.

use std::sync::Arc;
use std::time::Duration;

use api::{Map, Reason, Status, Value, meta};
use async_trait::async_trait;
use rand::Rng as _;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// Long enough to be told apart from one hour, so that the server may extend it.
const TOKEN_SECONDS: i64 = 3607;
/// The `default` account of a new namespace is made by a controller; a pod that comes first waits for it.
const DEFAULT_ATTEMPTS: u32 = 10;
const DEFAULT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct ServiceAccount {
    objects: Handle,
}

impl ServiceAccount {
    pub(super) fn new(objects: Handle) -> Self {
        Self { objects }
    }

    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
        let namespace = attributes.path.namespace.as_str();
        let reference = Ref::namespaced("", "serviceaccounts", namespace, name);
        if let Some(found) = self.objects.get().get(reference) {
            return Ok(found);
        }
        let attempts = if name == "default" { DEFAULT_ATTEMPTS } else { 1 };
        let mut error = Status::not_found("", "serviceaccount", name);
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(DEFAULT_PAUSE).await;
            }
            match self.objects.get().read(reference).await {
                Ok(found) => return Ok(found),
                Err(missing) if missing.reason == Reason::NotFound => {}
                Err(other) => {
                    error = other;
                    break;
                }
            }
        }
        let why = format!("error looking up service account {namespace}/{name}: {}", error.message);
        Err(attributes.forbidden(&why))
    }

    async fn check_ephemeral(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        let account = self.named_account(attributes, pod).await?;
        if !is_enforced(&account) {
            return Ok(());
        }
        let allowed = names(&account, "/secrets");
        let containers = containers_of(pod, "ephemeralContainers");
        match containers.iter().find_map(|c| foreign_secret(c, "ephemeral container", &allowed, &account)) {
            Some(why) => Err(Status::new(Reason::InternalError, why)),
            None => Ok(()),
        }
    }

    async fn named_account(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<Arc<Value>, Status> {
        let name = text(pod, "/spec/serviceAccountName");
        if name.is_empty() {
            let (namespace, pod) = (&attributes.path.namespace, meta::name(pod));
            return Err(attributes.forbidden(&format!("no service account specified for pod {namespace}/{pod}")));
        }
        self.account(attributes, name).await
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods"),
            Operation::Update => attributes.is_part("", "pods", "ephemeralcontainers"),
            _ => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let is_create = attributes.operation == Operation::Create;
        let pod = attributes.object.as_ref().filter(|pod| is_create && meta::annotation(pod, MIRROR).is_none());
        let Some(pod) = pod else {
            return Ok(());
        };
        let given = text(pod, "/spec/serviceAccountName").to_owned();
        let name = if given.is_empty() { "default" } else { &given };
        let account = self.account(attributes, name).await?;
        if let Some(pod) = &mut attributes.object {
            if given.is_empty() {
                pod["spec"]["serviceAccountName"] = json!(name);
                pod["spec"]["serviceAccount"] = json!(name);
            }
            complete(pod, &account);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        if attributes.operation == Operation::Update {
            return self.check_ephemeral(attributes, pod).await;
        }
        if meta::annotation(pod, MIRROR).is_some() {
            return check_mirror(pod).map_or(Ok(()), |why| Err(attributes.forbidden(why)));
        }
        let account = self.named_account(attributes, pod).await?;
        if !is_enforced(&account) {
            return Ok(());
        }
        match foreign_reference(pod, &account) {
            Some(why) => Err(attributes.forbidden(&why)),
            None => Ok(()),
        }
    }
}

fn complete(pod: &mut Value, account: &Value) {
    let wish = |object: &Value, pointer: &str| meta::find(object, pointer).and_then(Value::as_bool);
    let automount = wish(pod, "/spec/automountServiceAccountToken")
        .or_else(|| wish(account, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    let has_secrets =
        meta::find(pod, "/spec/imagePullSecrets").and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    let secrets = account.get("imagePullSecrets").and_then(Value::as_array).filter(|list| !list.is_empty());
    if let Some(secrets) = secrets.filter(|_| !has_secrets) {
        pod["spec"]["imagePullSecrets"] = secrets.iter().map(|secret| json!({"name": secret["name"]})).collect();
    }
}

fn mount_token(pod: &mut Value) {
    let volumes = meta::find(pod, "/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let known = volumes.filter_map(|volume| volume.get("name")?.as_str()).find(|n| n.starts_with(TOKEN_VOLUME_PREFIX));
    let (name, exists) = match known {
        Some(name) => (name.to_owned(), true),
        None => (format!("{TOKEN_VOLUME_PREFIX}{}", suffix()), false),
    };
    let mut is_needed = false;
    for field in ["initContainers", "containers"] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(field)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            is_needed |= mount(container, &name);
        }
    }
    if exists || !is_needed {
        return;
    }
    push(&mut pod["spec"], "volumes", json!({"name": name, "projected": token_source()}));
}

fn mount(container: &mut Value, volume: &str) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    if mounts.into_iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
        return false;
    }
    push(container, "volumeMounts", json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
    true
}

fn push(object: &mut Value, field: &str, item: Value) {
    let object: &mut Map<String, Value> = meta::as_object_mut(object);
    let list = object.entry(field).or_insert_with(|| json!([]));
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn token_source() -> Value {
    json!({
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
    })
}

fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut source = rand::rng();
    (0..5).map(|_| char::from(LETTERS[source.random_range(0..LETTERS.len())])).collect()
}

fn is_enforced(account: &Value) -> bool {
    matches!(meta::annotation(account, ENFORCE_MOUNTABLE), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// What a mirror pod must not have.
fn check_mirror(pod: &Value) -> Option<&'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let in_container = |container: &Value| !secret_names(container).is_empty();
    let volumes = || meta::find(pod, "/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let sources = |volume: &Value| {
        meta::find(volume, "/projected/sources").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let in_volume = |volume: &Value| {
        volume.get("secret").is_some() || sources(volume).iter().any(|source| source.get("secret").is_some())
    };
    let has_secrets = containers.iter().any(|field| containers_of(pod, field).iter().any(in_container))
        || volumes().any(in_volume)
        || !names(pod, "/spec/imagePullSecrets").is_empty();
    if has_secrets {
        return Some("a mirror pod may not reference secrets");
    }
    let has_token = |volume: &Value| sources(volume).iter().any(|source| source.get("serviceAccountToken").is_some());
    volumes().any(has_token).then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// The first secret of a pod that its account does not list.
fn foreign_reference(pod: &Value, account: &Value) -> Option<String> {
    let allowed = names(account, "/secrets");
    let name = meta::name(account);
    let volumes = meta::find(pod, "/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let mut secrets = volumes.filter_map(|volume| meta::find(volume, "/secret/secretName")?.as_str());
    if let Some(secret) = secrets.find(|secret| !allowed.iter().any(|own| own == secret)) {
        return Some(format!(
            "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that \
             secret"
        ));
    }
    for (field, word) in [("initContainers", "init container"), ("containers", "container")] {
        let containers = containers_of(pod, field);
        if let Some(why) = containers.iter().find_map(|c| foreign_secret(c, word, &allowed, account)) {
            return Some(why);
        }
    }
    let pull = names(account, "/imagePullSecrets");
    let own = names(pod, "/spec/imagePullSecrets");
    let (at, secret) = own.iter().enumerate().find(|(_, secret)| !pull.contains(secret))?;
    Some(format!(
        "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {name} does not reference that \
         imagePullSecret"
    ))
}

fn foreign_secret(container: &Value, word: &str, allowed: &[String], account: &Value) -> Option<String> {
    let (name, account) = (text(container, "/name"), meta::name(account));
    let (variable, secret) = secret_names(container).into_iter().find(|(_, secret)| !allowed.contains(secret))?;
    let what = if variable.is_empty() { "envFrom".to_owned() } else { format!("envVar {variable}") };
    Some(format!(
        "{word} {name} with {what} referencing secret.secretName=\"{secret}\" is not allowed because service account {account} \
         does not reference that secret"
    ))
}

/// Variables and the secrets they are filled from; the variable is empty for a whole secret.
fn secret_names(container: &Value) -> Vec<(String, String)> {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    let from_variable = |variable: &Value| {
        let secret = text(variable, "/valueFrom/secretKeyRef/name");
        (!secret.is_empty()).then(|| (text(variable, "/name").to_owned(), secret.to_owned()))
    };
    let from_all = |source: &Value| {
        let secret = text(source, "/secretRef/name");
        (!secret.is_empty()).then(|| (String::new(), secret.to_owned()))
    };
    list("env").filter_map(from_variable).chain(list("envFrom").filter_map(from_all)).collect()
}

fn containers_of<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    pod.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn names(object: &Value, pointer: &str) -> Vec<String> {
    let list = meta::find(object, pointer).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| Some(item.get("name")?.as_str()?.to_owned())).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    meta::find(value, pointer).and_then(Value::as_str).unwrap_or_default()
}
