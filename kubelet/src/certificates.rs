//! Certificates for pods: the key is made here and never leaves the node but into the pod; a signer certifies it
//! through a PodCertificateRequest.
//!
//! Nothing is kept over a restart: each certificate is then asked for anew. A pod's worker drives its certificates
//! with every look it takes at its volumes, and is woken when a signer answers.

mod key;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher;
use parking_lot::Mutex;
use reconcile::{EventType, Informer, Informers};

pub(crate) use self::state::Bundle;
use self::state::{Asked, State, Step};
use crate::events::Events;
use crate::kubelet::Kubelet;
use crate::objects::api_message;
use crate::pod;

/// Spreads the requests of pods that started together.
const JITTER_SECONDS: i64 = 300;

/// A source of a volume of a pod: pod uid, volume, index.
type Key = (String, String, usize);

pub(crate) struct Certificates {
    informers: Informers,
    /// The requests of this node, followed since the first pod that has one.
    requests: OnceLock<Informer<PodCertificateRequest>>,
    kept: Mutex<HashMap<Key, State>>,
    /// Whose pods are woken.
    kubelet: OnceLock<Weak<Kubelet>>,
}

/// Which source of which volume.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub pod: &'a Pod,
    pub volume: &'a str,
    pub index: usize,
}

impl Certificates {
    pub(crate) fn new(informers: Informers) -> Self {
        Self { informers, requests: OnceLock::new(), kept: Mutex::default(), kubelet: OnceLock::new() }
    }

    /// Wakes this node agent's pods from now on.
    pub(crate) fn attach(&self, kubelet: &Arc<Kubelet>) {
        let _ = self.kubelet.set(Arc::downgrade(kubelet));
    }

    /// The key and the chain, PEM.
    ///
    /// # Errors
    /// While there is none, and for good when the signer refuses.
    pub(crate) async fn get(
        &self,
        kubelet: &Kubelet,
        place: Place<'_>,
        source: &PodCertificateProjection,
    ) -> Result<Bundle, String> {
        let requests = self.requests(&kubelet.config.node_name);
        requests.synced().await;
        let key = (pod::uid(place.pod).to_owned(), place.volume.to_owned(), place.index);
        // A pod has one worker, so nobody else moves this state meanwhile.
        let mut state = self.kept.lock().get(&key).cloned().unwrap_or_default();
        loop {
            let namespace = pod::namespace(place.pod);
            let request = state.request_name().and_then(|name| requests.get(namespace, name));
            let Step { next, events, asks } = state.advance(request.as_deref(), daemon::clock::now(), jitter());
            let recorder = Events::new(&kubelet.recorder, place.pod);
            events.iter().for_each(|event| recorder.pod(EventType::Warning, &event.reason, &event.message));
            state = next;
            self.kept.lock().insert(key.clone(), state.clone());
            if !asks {
                return state.bundle();
            }
            match ask(kubelet, place.pod, source).await {
                Ok(asked) => state = state.asked(asked),
                // What there is may still be good.
                Err(error) => {
                    tracing::warn!(pod = pod::describe(place.pod), error, "cannot ask for a pod's certificate");
                    return state.bundle().map_err(|_| error);
                }
            }
            self.kept.lock().insert(key.clone(), state.clone());
        }
    }

    /// The server answers each of these requests with a watch of its own, so it is started only when needed.
    fn requests(&self, node: &str) -> Informer<PodCertificateRequest> {
        let start = || {
            let own = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
            let informer = self.informers.of_selected::<PodCertificateRequest>(own, None);
            let kubelet = self.kubelet.get().cloned().unwrap_or_default();
            informer.handle(move |change| {
                if let Some(kubelet) = kubelet.upgrade() {
                    kubelet.pods.wake(&change.object().spec.pod_uid);
                }
            });
            informer
        };
        self.requests.get_or_init(start).clone()
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.kept.lock().retain(|(of, _, _), _| of != uid);
    }
}

fn jitter() -> SignedDuration {
    SignedDuration::from_secs(rand::random_range(0..JITTER_SECONDS))
}

/// Makes a key and asks for its certificate.
async fn ask(kubelet: &Kubelet, pod: &Pod, source: &PodCertificateProjection) -> Result<Asked, String> {
    let account = pod::spec(pod).service_account_name.clone().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(kubelet.client.clone(), pod::namespace(pod));
    let found = accounts.get(&account).await;
    let found = found.map_err(|error| format!("while fetching service account: {}", api_message(&error)))?;
    let node = kubelet.node.get("", &kubelet.config.node_name);
    let node = node.ok_or("while getting node object from local cache: it is not there yet")?;
    let kind = source.key_type.clone();
    // Finding the primes of a large key takes long.
    let made = tokio::task::spawn_blocking(move || key::generate(&kind)).await;
    let made = made.map_err(|_| "while generating keypair: interrupted".to_owned())?;
    let made = made.map_err(|error| format!("while generating keypair: {error}"))?;
    let spec = PodCertificateRequestSpec {
        signer_name: source.signer_name.clone(),
        pod_name: pod::name(pod).to_owned(),
        pod_uid: pod::uid(pod).to_owned(),
        service_account_name: account,
        service_account_uid: found.metadata.uid.unwrap_or_default(),
        node_name: kubelet.config.node_name.clone(),
        node_uid: node.metadata.uid.clone().unwrap_or_default(),
        max_expiration_seconds: source.max_expiration_seconds,
        stub_pkc_s10_request: ByteString(made.request),
        unverified_user_annotations: source.user_annotations.clone(),
    };
    let request = PodCertificateRequest { metadata: metadata(pod), spec, status: None };
    let requests: Api<PodCertificateRequest> = Api::namespaced(kubelet.client.clone(), pod::namespace(pod));
    let created = requests.create(&PostParams::default(), &request).await;
    let created = created.map_err(|error| format!("while creating on API: {}", api_message(&error)))?.metadata;
    let at = created.creation_timestamp.map_or_else(daemon::clock::now, |time| time.0);
    Ok(Asked::new(made.private_key, created.name.unwrap_or_default(), at, jitter()))
}

/// Owned by the pod, and gone with it.
fn metadata(pod: &Pod) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod::name(pod).to_owned(),
        uid: pod::uid(pod).to_owned(),
        ..OwnerReference::default()
    };
    ObjectMeta {
        namespace: Some(pod::namespace(pod).to_owned()),
        generate_name: Some("req-".into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}
