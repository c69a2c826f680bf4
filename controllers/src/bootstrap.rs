//! Bootstrap tokens: signs `cluster-info` with each, so that who holds one can trust it, and removes expired ones.

mod plan;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::watcher,
};
use reconcile::{Informer, Key, Queue};

use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";

fn tokens(context: &Context) -> Informer<Secret> {
    let selected = watcher::Config::default().fields(&format!("type={}", plan::TYPE));
    context.shared.informers().of_selected(selected, Some(SYSTEM))
}

/// Keeps the signatures in `cluster-info`.
pub(crate) async fn run_signer(context: Context) -> Result<(), Error> {
    let selected = watcher::Config::default().fields(&format!("metadata.name={CLUSTER_INFO}"));
    let maps: Informer<ConfigMap> = context.shared.informers().of_selected(selected, Some(PUBLIC));
    let tokens = tokens(&context);
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    maps.handle(move |change| changed.add(Key::of(&**change.object())));
    let changed = queue.clone();
    tokens.handle(move |_| changed.add(Key::new(PUBLIC, CLUSTER_INFO)));
    maps.synced().await;
    tokens.synced().await;
    let sync = |key: Key| {
        let map = maps.get(&key.namespace, &key.name);
        let signed = map.and_then(|map| plan::sign(&map, &tokens.list(), daemon::clock::now()));
        let api = Api::<ConfigMap>::namespaced(context.client.clone(), PUBLIC);
        async move {
            if let Some(map) = signed {
                let written = api.replace(CLUSTER_INFO, &PostParams::default(), &map).await;
                written.during("sign", key).found()?;
            }
            Ok(None)
        }
    };
    context.work("bootstrap-signer-controller", &queue, 1, sync).await;
    Ok(())
}

/// Removes expired tokens.
pub(crate) async fn run_cleaner(context: Context) -> Result<(), Error> {
    let tokens = tokens(&context);
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    tokens.handle(move |change| {
        if !change.is_deleted() {
            changed.add(Key::of(&**change.object()));
        }
    });
    tokens.synced().await;
    let sync = |key: Key| {
        let token = tokens.get(&key.namespace, &key.name);
        let api = Api::<Secret>::namespaced(context.client.clone(), SYSTEM);
        async move {
            let Some(token) = token else { return Ok(None) };
            match plan::expires_in(&token, daemon::clock::now()) {
                None => Ok(None),
                Some(Duration::ZERO) => delete(&api, &token).await.map(|()| None),
                Some(left) => Ok(Some(left)),
            }
        }
    };
    context.work("token-cleaner-controller", &queue, 1, sync).await;
    Ok(())
}

async fn delete(api: &Api<Secret>, token: &Secret) -> Result<(), Error> {
    let key = Key::of(token);
    let preconditions = Preconditions { uid: token.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let deleted = api.delete(&key.name, &parameters).await.map(drop);
    deleted.during("delete bootstrap token", key).found().map(drop)
}
