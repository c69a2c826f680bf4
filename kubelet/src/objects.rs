//! Config maps, secrets and services that pods refer to.
//!
//! A node may only read the config maps and secrets that its pods name: each is watched by its name, once for all pods
//! that name it, as long as one does ([`watched`]).

mod references;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use reconcile::{Informer, Informers};
use tokio::sync::Notify;

use self::watched::{Answer, Watched};
use crate::pod;
use crate::spec::env::{self, Referred};

pub(crate) struct Objects {
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
    services: Informer<Service>,
}

/// The server's own words, without the client's wrapping.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Objects {
    pub(crate) fn new(informers: &Informers) -> Self {
        Self {
            config_maps: Watched::new("configmap", informers.clone()),
            secrets: Watched::new("secret", informers.clone()),
            services: informers.of::<Service>(),
        }
    }

    /// Follows what the pod refers to now, and no longer what it referred to before. `wake` is told of changes.
    pub(crate) fn refer(&self, pod: &Pod, wake: &Arc<Notify>) {
        let (config_maps, secrets) = references::of(pod);
        let (uid, namespace, now) = (pod::uid(pod), pod::namespace(pod), daemon::clock::monotonic());
        self.config_maps.refer(uid, namespace, config_maps, wake, now);
        self.secrets.refer(uid, namespace, secrets, wake, now);
    }

    /// The pod needs nothing any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.config_maps.forget(uid);
        self.secrets.forget(uid);
    }

    /// No longer follows what nobody has asked for in a while.
    pub(crate) fn rest(&self, now: Instant) {
        self.config_maps.rest(now);
        self.secrets.rest(now);
    }

    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Answer<ConfigMap>, String> {
        self.config_maps.get(namespace, name).await
    }

    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Answer<Secret>, String> {
        self.secrets.get(namespace, name).await
    }

    /// Everything the environment of a container refers to.
    pub(crate) async fn referred(&self, pod: &Pod, container: &Container) -> Result<Referred, String> {
        let namespace = pod::namespace(pod);
        let (config_maps, secrets) = env::references(container);
        let mut referred = Referred::default();
        for name in config_maps {
            if let Some(map) = self.config_map(namespace, &name).await? {
                referred.config_maps.insert(name, map.data.clone().unwrap_or_default());
            }
        }
        for name in secrets {
            if let Some(secret) = self.secret(namespace, &name).await? {
                referred.secrets.insert(name, secret_data(&secret));
            }
        }
        Ok(referred)
    }

    /// Variables of the services that a pod sees. Waits for the first list: `kubernetes` must not be missing.
    pub(crate) async fn service_variables(&self, pod: &Pod) -> BTreeMap<String, String> {
        if !pod::is_static(pod) {
            self.services.synced().await;
        }
        let services = self.services.list();
        let links = pod::spec(pod).enable_service_links.unwrap_or(true);
        env::service_variables(services.iter().map(AsRef::as_ref), pod::namespace(pod), links)
    }
}

fn secret_data(secret: &Secret) -> BTreeMap<String, ByteString> {
    secret.data.clone().unwrap_or_default()
}
