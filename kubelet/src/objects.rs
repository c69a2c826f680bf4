//! Config maps, secrets and services that pods refer to.
//!
//! Config maps and secrets are read one by one, because a node may only read what its pods name. An answer is kept
//! for a short time: the pods of a Deployment start together and refer to the same ones.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::{Api, Client};
use parking_lot::Mutex;
use reconcile::Informer;
use serde::de::DeserializeOwned;

use crate::pod;
use crate::spec::env::{self, Referred};

/// How long an answer may be used again.
const FRESH: Duration = Duration::from_secs(1);
/// Entries kept at most.
const MAX_KEPT: usize = 4096;

pub(crate) struct Objects {
    client: Client,
    config_maps: Kept<ConfigMap>,
    secrets: Kept<Secret>,
    services: Informer<Service>,
}

/// An object, or that it does not exist.
type Answer<K> = Option<Arc<K>>;

/// Namespace and name.
type Key = (String, String);

struct Kept<K>(Mutex<HashMap<Key, (Instant, Answer<K>)>>);

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Kept<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    async fn get(&self, client: &Client, namespace: &str, name: &str) -> Result<Answer<K>, String> {
        let key = (namespace.to_owned(), name.to_owned());
        let now = daemon::clock::monotonic();
        if let Some((at, answer)) = self.0.lock().get(&key)
            && now.duration_since(*at) < FRESH
        {
            return Ok(answer.clone());
        }
        let answer = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await;
        let answer = answer.map_err(|error| api_message(&error))?.map(Arc::new);
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
        }
        // That something is missing is news every time: it may be there the next moment.
        if answer.is_some() {
            kept.insert(key, (now, answer.clone()));
        }
        Ok(answer)
    }
}

/// The server's own words, without the client's wrapping.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Objects {
    pub(crate) fn new(client: Client, services: Informer<Service>) -> Self {
        Self { client, config_maps: Kept::default(), secrets: Kept::default(), services }
    }

    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Answer<ConfigMap>, String> {
        self.config_maps.get(&self.client, namespace, name).await
    }

    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Answer<Secret>, String> {
        self.secrets.get(&self.client, namespace, name).await
    }

    /// Everything the environment of a container refers to.
    pub(crate) async fn referred(
        &self,
        pod: &Pod,
        container: &k8s_openapi::api::core::v1::Container,
    ) -> Result<Referred, String> {
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
