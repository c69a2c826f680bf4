//! Publishes the certificates that pods verify the API with: `kube-root-ca.crt` in every namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, ResourceExt as _, api::PostParams, runtime::watcher};
use reconcile::{Informer, Queue};

use crate::{
    Error,
    context::Context,
    error::{During as _, is_namespace_terminating, status_code},
    serviceaccount::is_active,
};

const NAME: &str = "kube-root-ca.crt";
const DATA_KEY: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
const WORKERS: usize = 5;

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let Some(certificates) = context.config.root_ca.clone() else {
        tracing::warn!("no root certificates configured, they are not published");
        context.drain.cancelled().await;
        return Ok(());
    };
    let queue = Queue::<String>::new();
    let namespaces = context.informer::<Namespace>();
    // Only the maps of this name: a cluster may hold very many others.
    let selected = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let maps: Informer<ConfigMap> = context.shared.informers().of_selected(selected, None);
    let added = queue.clone();
    namespaces.handle(move |change| {
        if !change.is_deleted() && is_active(change.object()) {
            added.add(change.object().name_any());
        }
    });
    let changed = queue.clone();
    maps.handle(move |change| changed.add(change.object().namespace().unwrap_or_default()));
    namespaces.synced().await;
    maps.synced().await;
    let sync = |namespace: String| {
        let exists = namespaces.get("", &namespace).is_some_and(|it| is_active(&it));
        let present = maps.get(&namespace, NAME);
        let wanted = plan(present.as_deref(), &namespace, &certificates);
        let client = context.client.clone();
        async move {
            if let Some(map) = wanted.filter(|_| exists) {
                write(Api::namespaced(client, &namespace), map).await?;
            }
            Ok(None)
        }
    };
    context.work("root-ca-certificate-publisher-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// The map to write, if the present one will not do.
fn plan(present: Option<&ConfigMap>, namespace: &str, certificates: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([(DATA_KEY.to_owned(), certificates.to_owned())]);
    let described = present.is_some_and(|map| map.annotations().get(ANNOTATION).is_some_and(|it| !it.is_empty()));
    if described && present.is_some_and(|map| map.data.as_ref() == Some(&data)) {
        return None;
    }
    let mut map = present.cloned().unwrap_or_default();
    map.metadata.name = Some(NAME.to_owned());
    map.metadata.namespace = Some(namespace.to_owned());
    map.annotations_mut().insert(ANNOTATION.to_owned(), DESCRIPTION.to_owned());
    map.data = Some(data);
    Some(map)
}

async fn write(api: Api<ConfigMap>, map: ConfigMap) -> Result<(), Error> {
    let object = map.namespace().unwrap_or_default();
    if map.metadata.resource_version.is_some() {
        return api.replace(NAME, &PostParams::default(), &map).await.map(drop).during("update root CA map in", object);
    }
    match api.create(&PostParams::default(), &map).await {
        Err(error) if matches!(status_code(&error), Some(404 | 409)) || is_namespace_terminating(&error) => Ok(()),
        done => done.map(drop).during("create root CA map in", object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_what_differs() {
        let fresh = plan(None, "ns", "PEM").unwrap();
        assert_eq!(fresh.data.as_ref().unwrap()[DATA_KEY], "PEM");
        assert!(plan(Some(&fresh), "ns", "PEM").is_none());
        assert!(plan(Some(&fresh), "ns", "NEW").is_some());
        let mut extra = fresh.clone();
        extra.data.as_mut().unwrap().insert("more".to_owned(), String::new());
        assert_eq!(plan(Some(&extra), "ns", "PEM").unwrap().data, fresh.data);
        let mut bare = fresh.clone();
        bare.metadata.annotations = None;
        assert_eq!(plan(Some(&bare), "ns", "PEM").unwrap(), fresh);
    }
}
