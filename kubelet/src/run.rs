//! Starts the parts and waits for the drain.

use std::sync::Arc;
use std::time::Duration;

use cri::{Containerd, Runtime};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher;
use reconcile::{Change, Informers, Recorder};

use crate::backoff::Backoffs;
use crate::certificates::Certificates;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::error::Error;
use crate::images::Images;
use crate::kubelet::Kubelet;
use crate::node::{self, Machine, RuntimeState};
use crate::objects::Objects;
use crate::pods::Pods;
use crate::probe::Probes;
use crate::statuses::{self, Statuses};
use crate::tokens::Tokens;
use crate::trust::TrustBundles;
use crate::{eviction, housekeeping, manifests, pod, private, server, watch};

/// Tasks get this long to end after the drain started. Containers go on.
const JOIN: Duration = Duration::from_secs(5);
const RUNTIME_RETRY: Duration = Duration::from_millis(200);

/// Runs the node agent until the drain.
///
/// # Errors
/// When it cannot start: a directory cannot be made, the server cannot listen.
pub async fn run(config: Config, client: kube::Client, drain: daemon::Drain) -> Result<(), Error> {
    let Some(runtime) = drain.run(connect(&config)).await else { return Ok(()) };
    run_with(config, client, runtime, drain).await
}

/// The runtime may be starting beside this program: wait for it.
async fn connect(config: &Config) -> Arc<dyn Runtime> {
    loop {
        match Containerd::connect(&config.runtime_socket, &config.exec_dir, daemon::clock::now).await {
            Ok(runtime) if runtime.version().await.is_ok() => {
                if let Err(error) = runtime.forget_unfinished().await {
                    tracing::warn!(%error, "cannot let go of what an earlier run left unfinished");
                }
                return Arc::new(runtime);
            }
            Ok(_) => tracing::debug!("the container runtime does not answer yet"),
            Err(error) => tracing::debug!(%error, "the container runtime is not there yet"),
        }
        tokio::time::sleep(RUNTIME_RETRY).await;
    }
}

/// As [`run`], on a given runtime.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    mut config: Config,
    client: kube::Client,
    runtime: Arc<dyn Runtime>,
    drain: daemon::Drain,
) -> Result<(), Error> {
    for path in [config.root_dir.clone(), config.root_dir.join("pods"), config.pod_logs_dir.clone()] {
        private::directory(&path).map_err(|source| Error::MakeDirectory { path, source })?;
    }
    // The kernel's list of mounts names real paths.
    config.root_dir = config.root_dir.canonicalize().map_err(|source| {
        let path = config.root_dir.clone();
        Error::MakeDirectory { path, source }
    })?;
    let path = config.exec_dir.clone();
    std::fs::create_dir_all(&path).map_err(|source| Error::MakeDirectory { path, source })?;
    let tasks = daemon::Tasks::new(drain.clone());
    let informers = Informers::new(client.clone(), tasks.clone());
    let kubelet = assemble(config, client, runtime, &tasks, &informers).await?;
    if let Err(error) = kubelet.cgroups.prepare() {
        tracing::warn!(%error, "cannot make the cgroups of pods");
    }
    kubelet.certificates.attach(&kubelet);
    server::start(&kubelet).await?;
    node::start(&kubelet);
    let shared = kubelet.clone();
    tasks.supervise("runtime events", move || watch::run(shared.clone()));
    start_statuses(&kubelet);
    let pods = start_sources(&kubelet, &informers);
    housekeeping::start(&kubelet, pods);
    eviction::start(&kubelet);
    drain.cancelled().await;
    kubelet.pods.clear();
    kubelet.probes.clear();
    tasks.join(JOIN).await?;
    Ok(())
}

async fn assemble(
    config: Config,
    client: kube::Client,
    runtime: Arc<dyn Runtime>,
    tasks: &daemon::Tasks,
    informers: &Informers,
) -> Result<Arc<Kubelet>, Error> {
    let version = runtime.version().await?;
    let recorder = Recorder::new(client.clone(), tasks, "kubelet", Some(&config.node_name));
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let node = informers.of_selected::<Node>(own, None);
    Ok(Arc::new(Kubelet {
        objects: Objects::new(informers),
        images: Images::new(runtime.clone(), config.serialize_image_pulls),
        tokens: Tokens::new(client.clone()),
        trust: TrustBundles::new(informers.clone()),
        certificates: Certificates::new(informers.clone()),
        cgroups: Cgroups::new(&config.cgroups),
        probes: Arc::new(Probes::default()),
        pods: Pods::default(),
        statuses: Statuses::new(),
        machine: Machine::read(&version),
        runtime_state: RuntimeState::new(),
        crashes: Backoffs::new(Duration::from_secs(10), config.max_container_backoff),
        node,
        recorder,
        tasks: tasks.clone(),
        config,
        client,
        runtime,
    }))
}

fn start_statuses(kubelet: &Arc<Kubelet>) {
    let queue = kubelet.statuses.queue();
    let (shared, drain) = (kubelet.clone(), kubelet.tasks.drain().clone());
    kubelet.tasks.spawn("pod statuses", async move {
        let sync = |uid| statuses::sync(shared.clone(), uid);
        reconcile::run_workers("pod statuses", &queue, statuses::WORKERS, &drain, sync).await;
    });
}

/// Pods bound to this node, and manifests on it.
fn start_sources(kubelet: &Arc<Kubelet>, informers: &Informers) -> reconcile::Informer<Pod> {
    // First: their room is taken before a pod of the API's is looked at.
    manifests::start(kubelet);
    let selector = format!("spec.nodeName={}", kubelet.config.node_name);
    let pods = informers.of_selected::<Pod>(watcher::Config::default().fields(&selector), None);
    let shared = kubelet.clone();
    pods.handle(move |change| match change {
        Change::Deleted(pod) => Pods::remove(&shared, pod),
        Change::Added(pod) => Pods::apply(&shared, &pod::from_api(pod)),
        Change::Updated { old, new } => {
            // Deleted and made anew between two lists: another pod.
            if old.metadata.uid != new.metadata.uid {
                Pods::remove(&shared, old);
            }
            Pods::apply(&shared, &pod::from_api(new));
        }
    });
    pods
}
