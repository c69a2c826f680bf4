//! Tokens of service accounts that are kept in secrets: fills those that somebody asks for by making a secret, takes them away
//! with their account, and takes out of use what was made unasked and is used by nobody.
//!
//! Such a token is not bound to a pod and does not end: it is good as long as its secret exists. Nothing makes one unasked any
//! more; secrets that an older release has made come with the objects of an older cluster.

mod plan;

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher,
};
use pki::TokenSigner;
use reconcile::{Change, Informer, Key, Queue};
use serde_json::json;

use self::plan::{Times, Verdict};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _, status_code},
};

const WORKERS: usize = 5;
const SYSTEM: &str = "kube-system";
/// Where the API server says since when it notes the use of tokens.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// Dates count, so a token is looked at again after a day.
const LOOK_EVERY: Duration = Duration::from_hours(24);

/// Something to bring in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// The account of this name and UID is gone.
    Account { key: Key, uid: String },
    /// The secret of this name and UID is new, has changed or is gone.
    Secret { key: Key, uid: String, account: String, account_uid: String },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { key, .. } => write!(f, "account {key}"),
            Self::Secret { key, .. } => write!(f, "secret {key}"),
        }
    }
}

impl Work {
    fn of(secret: &Secret) -> Self {
        let (account, account_uid) = plan::account_of(secret);
        Self::Secret {
            key: Key::of(secret),
            uid: uid(secret),
            account: account.to_owned(),
            account_uid: account_uid.to_owned(),
        }
    }
}

struct Filler {
    /// Upstream gives these writes no account of their own: nobody else than the manager may make tokens.
    client: Client,
    accounts: Informer<ServiceAccount>,
    secrets: Informer<Secret>,
    signer: Arc<TokenSigner>,
    root_ca: Option<String>,
}

fn secrets(context: &Context) -> Informer<Secret> {
    let selected = watcher::Config::default().fields(&format!("type={}", plan::TYPE));
    context.shared.informers().of_selected(selected, None)
}

fn uid<K: kube::Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// Fills secrets with tokens.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let Some(signer) = context.config.service_account_key.clone() else {
        tracing::warn!("no key to sign tokens with configured, secrets of service accounts get none");
        context.drain.cancelled().await;
        return Ok(());
    };
    let filler = Filler {
        client: context.process.clone(),
        accounts: context.informer(),
        secrets: secrets(&context),
        signer: signer.0,
        root_ca: context.config.root_ca.clone(),
    };
    let queue = Queue::<Work>::new();
    let changed = queue.clone();
    filler.secrets.handle(move |change| changed.add(Work::of(change.object())));
    let deleted = queue.clone();
    filler.accounts.handle(move |change| {
        if let Some(gone) = gone(change) {
            deleted.add(Work::Account { key: Key::of(&**gone), uid: uid(&**gone) });
        }
    });
    filler.secrets.synced().await;
    filler.accounts.synced().await;
    let filler = &filler;
    let sync = |work: Work| async move { filler.sync(work).await.map(|()| None) };
    context.work("serviceaccount-token-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// The account that a change has ended, which another of its name may follow at once.
fn gone(change: &Change<ServiceAccount>) -> Option<&Arc<ServiceAccount>> {
    match change {
        Change::Deleted(old) => Some(old),
        Change::Updated { old, new } if old.metadata.uid != new.metadata.uid => Some(old),
        _ => None,
    }
}

impl Filler {
    async fn sync(&self, work: Work) -> Result<(), Error> {
        match work {
            Work::Account { key, uid } => self.account_gone(&key, &uid).await,
            Work::Secret { key, uid: wanted, account, account_uid } => {
                let found = self.secrets.get(&key.namespace, &key.name).filter(|secret| uid(&**secret) == wanted);
                match found {
                    Some(secret) => self.secret(&secret, &account, &account_uid).await,
                    None => self.secret_gone(&key, &account, &account_uid).await,
                }
            }
        }
    }

    async fn account_gone(&self, key: &Key, gone: &str) -> Result<(), Error> {
        if self.accounts.get(&key.namespace, &key.name).is_some_and(|account| uid(&*account) == gone) {
            return Ok(());
        }
        for secret in self.secrets.list_in(&key.namespace) {
            if plan::belongs(&secret, &key.name, gone) {
                self.delete(&secret).await?;
            }
        }
        Ok(())
    }

    async fn secret(&self, secret: &Secret, account: &str, account_uid: &str) -> Result<(), Error> {
        let namespace = secret.namespace().unwrap_or_default();
        let is_same = |found: &ServiceAccount| account_uid.is_empty() || uid(found) == account_uid;
        let account = match self.accounts.get(&namespace, account).filter(|found| is_same(found)) {
            Some(found) => Some(found),
            // The account may be younger than what the informer knows.
            None => self.read(&namespace, account).await?.filter(is_same).map(Arc::new),
        };
        match account {
            Some(account) => self.fill(secret, &account).await,
            None => self.delete(secret).await,
        }
    }

    async fn fill(&self, secret: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let key = Key::of(secret);
        let filled = plan::filled(secret, account, self.root_ca.as_deref(), |claims| self.signer.sign(claims));
        let filled = filled.map_err(|source| Error::Token { object: key.to_string(), source })?;
        let Some(filled) = filled else { return Ok(()) };
        let api = Api::<Secret>::namespaced(self.client.clone(), &key.namespace);
        match api.replace(&key.name, &PostParams::default(), &filled).await {
            // Somebody has written or deleted it, which is an event.
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(()),
            // It is immutable, say: another try would not help.
            Err(error) if status_code(&error) == Some(422) => {
                tracing::warn!(%error, secret = %key, "cannot fill a token secret");
                Ok(())
            }
            done => done.map(drop).during("fill token secret", key),
        }
    }

    /// An account names secrets that were made for it.
    async fn secret_gone(&self, key: &Key, account: &str, account_uid: &str) -> Result<(), Error> {
        let Some(mut found) = self.read(&key.namespace, account).await? else { return Ok(()) };
        let is_same = account_uid.is_empty() || uid(&found) == account_uid;
        let is_named = |account: &ServiceAccount| plan::names_secret(account, &key.name);
        if !is_same || !is_named(&found) {
            return Ok(());
        }
        found.secrets.iter_mut().for_each(|secrets| secrets.retain(|one| one.name.as_ref() != Some(&key.name)));
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace(account, &PostParams::default(), &found).await;
        written.during("remove a secret from service account", format_args!("{}/{account}", key.namespace)).found()?;
        Ok(())
    }

    async fn read(&self, namespace: &str, account: &str) -> Result<Option<ServiceAccount>, Error> {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        api.get_opt(account).await.during("get service account", format_args!("{namespace}/{account}"))
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let preconditions = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        delete(&self.client, secret, preconditions).await
    }
}

/// A secret that is gone, or another one by now, is no failure.
async fn delete(client: &Client, secret: &Secret, preconditions: Preconditions) -> Result<(), Error> {
    let key = Key::of(secret);
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let api = Api::<Secret>::namespaced(client.clone(), &key.namespace);
    match api.delete(&key.name, &parameters).await {
        Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(()),
        done => done.map(drop).during("delete token secret", key),
    }
}

/// Takes tokens out of use that were made unasked and that nobody uses: first they are marked, later deleted.
pub(crate) async fn run_cleaner(context: Context) -> Result<(), Error> {
    let secrets = secrets(&context);
    let accounts = context.informer::<ServiceAccount>();
    let pods = context.informer::<Pod>();
    let selected = watcher::Config::default().fields(&format!("metadata.name={TRACKING}"));
    let tracking: Informer<ConfigMap> = context.shared.informers().of_selected(selected, Some(SYSTEM));
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    secrets.handle(move |change| {
        if !change.is_deleted() {
            changed.add(Key::of(&**change.object()));
        }
    });
    secrets.synced().await;
    accounts.synced().await;
    pods.synced().await;
    tracking.synced().await;
    let sync = |key: Key| {
        let secret = secrets.get(&key.namespace, &key.name);
        let verdict = secret.as_ref().map(|secret| {
            let times = tracking
                .get(SYSTEM, TRACKING)
                .and_then(|map| Times::new(&map, daemon::clock::now(), context.config.token_clean_up_period));
            let account = accounts.get(&key.namespace, plan::account_of(secret).0);
            let is_used = || pods.list_in(&key.namespace).iter().any(|pod| plan::uses(pod, &key.name));
            times.map_or(Verdict::Keep, |times| times.verdict(secret, account.as_deref(), is_used))
        });
        let client = context.client.clone();
        async move {
            let Some(secret) = secret else { return Ok(None) };
            act(&client, &secret, verdict.unwrap_or(Verdict::Keep)).await?;
            Ok(Some(LOOK_EVERY))
        }
    };
    context.work("legacy-serviceaccount-token-cleaner-controller", &queue, 1, sync).await;
    Ok(())
}

async fn act(client: &Client, secret: &Secret, verdict: Verdict) -> Result<(), Error> {
    let key = Key::of(secret);
    match verdict {
        Verdict::Keep => Ok(()),
        Verdict::Mark { date } => {
            tracing::info!(secret = %key, date, "marking an unused token of a service account as invalid");
            let api = Api::<Secret>::namespaced(client.clone(), &key.namespace);
            let patch = json!({"metadata": {"uid": uid(secret), "labels": {plan::INVALID_SINCE: date}}});
            let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map(drop).during("mark token secret", key)
        }
        Verdict::Delete => {
            tracing::info!(secret = %key, "deleting an unused token of a service account");
            let resource_version = secret.metadata.resource_version.clone();
            delete(client, secret, Preconditions { uid: None, resource_version }).await
        }
    }
}
