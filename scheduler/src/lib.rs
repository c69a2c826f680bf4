//! The scheduler: gives pods nodes.
//!
//! ```text
//! Nodes, Pods, Namespaces, volumes -> cache (nodes with their pods) -> snapshot \
//!                        \-> queue (waiting, backing off)  -> decide (pure: filter, score) -> assume -> bind
//!                                                            \-> no node: preempt (pure), condition, event, wait
//! ```
//!
//! Constraints, in order: a decision is made on one snapshot and sees every earlier decision; binding never holds up
//! the next decision; a pod that no node takes waits until something happens that could change that.

mod bind;
mod cache;
mod config;
mod cycle;
mod framework;
mod health;
mod model;
mod plugins;
mod queue;
mod watch;

use std::{sync::Arc, time::Duration};

use daemon::{Drain, Tasks};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::Client;
use reconcile::{Informer, Informers, LeaderLease, Recorder};
use tracing::{debug, info, warn};

pub use self::config::{Args, Config, ConfigError};
use self::{
    bind::Binder,
    cache::{Cache, Snapshot},
    cycle::{Cursor, Preemption, decide, preempt},
    model::{PodInfo, storage::Plan},
    plugins::volume_binding::sorted,
    queue::{Queue, Waiting},
};

/// Why the scheduler ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another scheduler decides now.
    #[error("the scheduler lost its lease")]
    Lost(#[from] reconcile::lease::Lost),
    /// The health address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

const LEASE: (&str, &str) = ("kube-system", "kube-scheduler");
const COMPONENT: &str = "default-scheduler";
const JOIN: Duration = Duration::from_secs(5);

/// Decides until the drain.
///
/// # Errors
/// When the lease is lost, so that the caller can start again with fresh caches, or the health port is taken.
pub async fn run(config: Config, client: Client, drain: Drain) -> Result<(), Error> {
    let config = Arc::new(config);
    let tasks = Tasks::new(drain.clone());
    if let Some(address) = config.health_listen {
        health::serve(address, &tasks).await?;
    }
    let scheduler = Scheduler::new(config.clone(), client.clone(), tasks.clone());
    let lead = async |leading: Drain| {
        leading.run(scheduler.follow()).await;
    };
    let outcome = if config.leader_elect {
        LeaderLease::new(client, LEASE.0, LEASE.1, &config.identity).run(&drain, lead).await
    } else {
        lead(drain).await;
        Ok(())
    };
    if let Err(late) = tasks.join(JOIN).await {
        warn!(%late, "ending anyway");
    }
    Ok(outcome?)
}

struct Scheduler {
    config: Arc<Config>,
    cache: Arc<Cache>,
    queue: Arc<Queue>,
    binder: Arc<Binder>,
    informers: Informers,
    budgets: Informer<PodDisruptionBudget>,
    tasks: Tasks,
}

impl Scheduler {
    fn new(config: Arc<Config>, client: Client, tasks: Tasks) -> Self {
        let informers = Informers::new(client.clone(), tasks.clone());
        let recorder = Recorder::new(client.clone(), &tasks, COMPONENT, None);
        Self {
            cache: Arc::default(),
            queue: Arc::new(Queue::new(config.delays)),
            binder: Arc::new(Binder { client, recorder }),
            budgets: informers.of(),
            informers,
            config,
            tasks,
        }
    }

    async fn follow(&self) {
        let names = self.config.profiles.keys().cloned().collect();
        watch::follow(&self.informers, &self.cache, &self.queue, names).await;
        info!("deciding");
        let mut cursor = Cursor::default();
        loop {
            let waiting = self.queue.next().await;
            self.one(waiting, &mut cursor);
            // Decisions are pure computation: let the reflectors in between.
            tokio::task::yield_now().await;
        }
    }

    fn one(&self, mut waiting: Waiting, cursor: &mut Cursor) {
        // What the API says of it may be behind the last decision.
        let nomination = self.cache.nomination(&waiting.pod.uid);
        if waiting.pod.nominated != nomination {
            Arc::make_mut(&mut waiting.pod).nominated = nomination;
        }
        let pod = &waiting.pod;
        let profile = self.config.profiles.get(watch::scheduler_name(&pod.object));
        let Some(profile) = profile.filter(|_| !pod.terminating && !self.cache.has_pod(&pod.uid)) else {
            self.queue.remove(&pod.key, &pod.uid);
            return;
        };
        let (snapshot, nominated) = (self.cache.snapshot(), self.cache.nominated(pod));
        match decide(profile, pod, &snapshot, &nominated, cursor) {
            Ok(node) => {
                let plan = volumes_for(pod, &node, &snapshot);
                self.bind(waiting, node, plan);
            }
            Err(unfit) => {
                let outcome = if profile.preempts {
                    preempt(profile, pod, &snapshot, &unfit, &nominated, &self.budgets.list())
                } else {
                    Preemption::NotEligible(String::new())
                };
                self.refuse(waiting, &unfit, outcome);
            }
        }
    }

    fn bind(&self, waiting: Waiting, node: String, plan: Plan) {
        debug!(pod = %waiting.pod.key, node, "decided");
        self.cache.assume(Arc::new(waiting.pod.on(&node)));
        self.cache.assume_storage(&plan, &node);
        self.queue.remove(&waiting.pod.key, &waiting.pod.uid);
        let (cache, queue, binder) = (self.cache.clone(), self.queue.clone(), self.binder.clone());
        let pods = self.informers.of::<Pod>();
        self.tasks.spawn("bind", async move {
            let bound = async {
                if !plan.is_empty() {
                    binder.bind_volumes(&waiting.pod, &plan, &node, &cache).await?;
                }
                binder.bind(&waiting.pod, &node).await
            };
            if let Err(failure) = bound.await {
                cache.forget(&waiting.pod.uid);
                cache.forget_storage(&plan);
                if failure.is_final() {
                    debug!(pod = %waiting.pod.key, %failure, "the pod is gone or has a node");
                    return;
                }
                warn!(pod = %waiting.pod.key, node, %failure, "binding failed");
                if let Some(pod) = wait_again(&pods, &queue, &waiting) {
                    binder.refused(&pod, &failure.to_string(), "SchedulerError", Some("")).await;
                }
            }
        });
    }

    fn refuse(&self, waiting: Waiting, unfit: &cycle::Unfit, outcome: Preemption) {
        let (message, node, victims) = match outcome {
            Preemption::Victims { node, pods } => (unfit.message(""), Some(node), pods),
            Preemption::NotEligible(why) => (unfit.message(&why), None, Vec::new()),
            Preemption::Useless(why) => (unfit.message(&why), Some(String::new()), Vec::new()),
        };
        let pod = waiting.pod.clone();
        let mut lower = Vec::new();
        if let Some(node) = &node {
            self.cache.nominate(&pod, node);
            lower = self.cache.give_up_below(node, pod.priority);
        }
        self.queue.unschedulable(&waiting, unfit.wakes);
        let (binder, queue) = (self.binder.clone(), self.queue.clone());
        self.tasks.spawn("refuse", async move {
            for other in lower {
                binder.give_up(&other).await;
            }
            let mut all_go = true;
            for victim in victims.iter().filter(|victim| !victim.terminating) {
                all_go &= binder.preempt(victim, &pod, node.as_deref().unwrap_or("")).await;
            }
            binder.refused(&pod, &message, "Unschedulable", node.as_deref()).await;
            if !all_go {
                queue.try_again(&pod);
            }
        });
    }
}

/// Queues a pod again whose binding failed, as it is by now; one that is gone, or has a node, is left alone.
fn wait_again(pods: &Informer<Pod>, queue: &Queue, waiting: &Waiting) -> Option<Arc<PodInfo>> {
    let (key, uid) = (&waiting.pod.key, &waiting.pod.uid);
    let present = || pods.get(&key.namespace, &key.name).filter(|pod| watch::is_waiting(pod, uid));
    let pod = Arc::new(PodInfo::new(present()?));
    queue.failed(&waiting.of(pod.clone()));
    if present().is_none() {
        // It went meanwhile, and was not in the queue when that was told.
        queue.remove(key, uid);
        return None;
    }
    Some(pod)
}

/// What has to be bound before the pod is; nothing for most pods.
fn volumes_for(pod: &PodInfo, node: &str, snapshot: &Snapshot) -> Plan {
    let Ok(Some(sorted)) = sorted(pod, snapshot.storage()) else { return Plan::default() };
    let labels = snapshot.node(node).map(|node| node.labels.clone()).unwrap_or_default();
    snapshot.storage().plan(&sorted, node, &labels).unwrap_or_default()
}

#[cfg(test)]
mod tests;
