//! One pod's worker: brings what runs to what is wanted, and the pod to its end.
//!
//! ```text
//!   Running --(deleted, gone, evicted, completed)--> Terminating --> Terminated --(gone from its source)--> forgotten
//! ```
//! Each turn observes the runtime, derives the status, plans, acts and waits: for a change of the pod, an event of its
//! containers, or a point in time.

mod act;
mod admit;
pub(crate) mod collect;
mod hooks;
mod kill;
mod news;
mod resize;
mod start;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use reconcile::EventType;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::news::News;
use crate::events::Events;
use crate::kubelet::Kubelet;
use crate::observe;
use crate::observed::PodObserved;
use crate::pod;
use crate::pods::{Desired, View};
use crate::private;
use crate::probe::PodProbes;
use crate::status::{self, Verdict, WaitingReason};
use crate::volumes::{self, Volumes};

pub(crate) use resize::Progress;

/// A pod is looked at this often even when nothing happens: volumes are refreshed, drift is found.
const RESYNC: Duration = Duration::from_secs(60);
/// Delay after a failure that nothing announces the end of.
const RETRY: Duration = Duration::from_secs(10);
/// First delay after a volume could not be made; doubles up to [`RETRY`].
const RETRY_MOUNT: Duration = Duration::from_millis(500);
/// So many turns follow each other at once; more of them are a loop that leads nowhere, and is slowed down.
const MAX_QUICK_TURNS: u32 = 20;
const SLOW_TURN: Duration = Duration::from_secs(1);
/// A terminating pod's runtime is asked again after this.
const RETRY_KILL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Terminating,
    Terminated,
}

/// When to look again, unless something happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Now,
    After(Duration),
    Terminate,
}

pub(crate) struct Worker {
    kubelet: Arc<Kubelet>,
    uid: String,
    stage: Stage,
    view: Arc<Mutex<View>>,
    /// Tells of changes of what the pod refers to.
    news_bell: Arc<Notify>,
    /// The last status made here.
    status: PodStatus,
    waiting: HashMap<String, WaitingReason>,
    verdict: Option<Verdict>,
    is_admitted: bool,
    /// This node cannot run the pod: it never gets containers.
    is_rejected: bool,
    mount_failures: u32,
    /// What was mounted last: a volume that cannot be refreshed stays as it is.
    volumes: Option<Volumes>,
    /// What the pod was given, and what its containers have; none before the first look.
    ledger: Option<resize::Ledger>,
    /// The ledger as it was written last.
    written: Option<resize::Ledger>,
    resize: Progress,
}

pub(crate) async fn run(
    kubelet: Arc<Kubelet>,
    uid: String,
    mut desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    view: Arc<Mutex<View>>,
) {
    let status = view.lock().status.clone();
    let mut news = News::new();
    let mut worker = Worker {
        kubelet,
        uid,
        stage: Stage::Running,
        view,
        news_bell: news.bell().clone(),
        status,
        waiting: HashMap::new(),
        verdict: None,
        is_admitted: false,
        is_rejected: false,
        mount_failures: 0,
        volumes: None,
        ledger: None,
        written: None,
        resize: Progress::default(),
    };
    let mut quick_turns = 0;
    loop {
        let now = desired.borrow_and_update().clone();
        let next = worker.turn(&now, &mut desired).await;
        let Some(next) = next else { return };
        let delay = match next {
            Next::Now | Next::Terminate if quick_turns < MAX_QUICK_TURNS => {
                quick_turns += 1;
                continue;
            }
            Next::Now | Next::Terminate => SLOW_TURN,
            Next::After(delay) => delay,
        };
        quick_turns = 0;
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = wake.notified() => {}
            () = news.come() => {}
            () = tokio::time::sleep_until(Instant::now() + delay) => {}
        }
    }
}

/// Ends when the pod has to end while it is being worked on.
async fn must_end(mut desired: watch::Receiver<Desired>) {
    loop {
        if is_ending(&desired.borrow_and_update()) {
            return;
        }
        if desired.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Ends when the pod is given less time than it had.
async fn is_hurried(mut desired: watch::Receiver<Desired>, grace: i64) {
    loop {
        if pod::grace_seconds(&desired.borrow_and_update().pod) < grace {
            return;
        }
        if desired.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn is_ending(desired: &Desired) -> bool {
    desired.gone || desired.verdict.is_some() || pod::is_deleted(&desired.pod)
}

impl Worker {
    /// One look at the pod. None when there is nothing left to do, ever.
    async fn turn(&mut self, desired: &Desired, receiver: &mut watch::Receiver<Desired>) -> Option<Next> {
        if self.stage == Stage::Running && is_ending(desired) {
            self.stage = Stage::Terminating;
            self.verdict = self.verdict.take().or_else(|| desired.verdict.clone());
        }
        match self.stage {
            Stage::Running => {
                let watch = receiver.clone();
                let next = tokio::select! {
                    next = self.sync(&desired.pod) => next,
                    () = must_end(watch) => Next::Now,
                };
                if next == Next::Terminate {
                    self.stage = Stage::Terminating;
                }
                Some(next)
            }
            Stage::Terminating => {
                let watch = receiver.clone();
                let grace = pod::grace_seconds(&desired.pod);
                tokio::select! {
                    next = self.terminate(&desired.pod, desired.gone) => Some(next),
                    () = is_hurried(watch, grace) => Some(Next::Now),
                }
            }
            Stage::Terminated => self.after_end(desired),
        }
    }

    fn events<'a>(&'a self, pod: &'a Pod) -> Events<'a> {
        Events::new(&self.kubelet.recorder, pod)
    }

    async fn sync(&mut self, pod: &Arc<Pod>) -> Next {
        let pod = &self.allocate(pod);
        let observed = match observe::pod(&*self.kubelet.runtime, &self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                self.events(pod).pod(EventType::Warning, "FailedSync", &format!("error determining status: {error}"));
                return Next::After(RETRY);
            }
        };
        if self.must_not_run(pod, &observed) {
            self.publish(pod, &observed, false);
            return Next::Terminate;
        }
        self.kubelet.probes.sync(&self.kubelet, pod);
        self.publish(pod, &observed, false);
        if pod::is_terminal_phase(self.status.phase.as_deref()) {
            return Next::Terminate;
        }
        match self.bring_up(pod, observed).await {
            Ok(next) => self.within_deadline(pod, next),
            Err(delay) => Next::After(delay),
        }
    }

    /// Rejected or past its deadline.
    fn must_not_run(&mut self, pod: &Arc<Pod>, observed: &PodObserved) -> bool {
        if self.verdict.is_none() && admit::deadline_passed(pod, &self.status, daemon::clock::now()) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.events(pod).pod(EventType::Normal, "DeadlineExceeded", message);
            self.verdict = Some(Verdict { reason: "DeadlineExceeded".into(), message: message.into() });
        }
        // What runs or has run already was admitted once, by an earlier run of this program.
        let is_new = !self.is_admitted && observed.sandboxes.is_empty() && self.status.start_time.is_none();
        // The guard outlives the view's change below.
        let room = self.kubelet.pods.take_room();
        if self.verdict.is_none() && is_new {
            self.verdict = admit::check(&self.kubelet, pod).map(|(reason, message)| {
                self.events(pod).pod(EventType::Warning, &reason, &message);
                Verdict { reason, message: format!("Pod was rejected: {message}") }
            });
            self.is_rejected = self.verdict.is_some();
        }
        self.is_admitted = true;
        if self.verdict.is_none() {
            let mut view = self.view.lock();
            view.allocated = Some(pod.clone());
            view.is_admitted = true;
        }
        drop(room);
        self.verdict.is_some()
    }

    fn within_deadline(&self, pod: &Pod, next: Next) -> Next {
        let left = admit::until_deadline(pod, &self.status, daemon::clock::now());
        match (next, left) {
            (Next::After(delay), Some(left)) => Next::After(delay.min(left)),
            (next, _) => next,
        }
    }

    /// Everything a pod needs before its containers, then the containers.
    async fn bring_up(&mut self, pod: &Arc<Pod>, observed: PodObserved) -> Result<Next, Duration> {
        self.kubelet.objects.refer(pod, &self.news_bell);
        if !pod::is_host_network(pod)
            && let Some(problem) = self.kubelet.runtime_state.network_problem()
        {
            self.events(pod).pod(EventType::Warning, "NetworkNotReady", &format!("network is not ready: {problem}"));
            return Err(RETRY);
        }
        if let Err(error) = self.kubelet.cgroups.ensure(pod, &self.pod_limits(pod, &observed)) {
            let message = format!("unable to ensure pod container exists: {error}");
            self.events(pod).pod(EventType::Warning, "FailedCreatePodContainer", &message);
            return Err(RETRY);
        }
        let directory = volumes::pod_directory(&self.kubelet.config.root_dir, &self.uid);
        let made = private::directory(&directory).and_then(|()| private::directory(&directory.join("volumes")));
        if let Err(error) = made {
            let message = format!("error making pod data directories: {error}");
            self.events(pod).pod(EventType::Warning, "Failed", &message);
            return Err(RETRY);
        }
        self.write_ledger(Some(&observed));
        let ips = if observed.ips().is_empty() && pod::is_host_network(pod) {
            self.kubelet.host_ips()
        } else {
            observed.ips()
        };
        let volumes = self.prepare_volumes(pod, &ips).await?;
        Ok(self.act(pod, observed, &volumes).await)
    }

    async fn prepare_volumes(&mut self, pod: &Arc<Pod>, ips: &[String]) -> Result<Volumes, Duration> {
        let (volumes, failure) = volumes::prepare(&self.kubelet, pod, ips, self.volumes.as_ref()).await;
        let Some(failure) = failure else {
            self.mount_failures = 0;
            self.volumes = Some(volumes.clone());
            return Ok(volumes);
        };
        self.events(pod).pod(EventType::Warning, "FailedMount", &failure.to_string());
        // What its containers have already been started with is there still, and is what they are started with again.
        if self.volumes.is_some() {
            self.volumes = Some(volumes.clone());
            return Ok(volumes);
        }
        let delay = RETRY_MOUNT * (1 << self.mount_failures.min(5));
        self.mount_failures += 1;
        Err(delay.min(RETRY))
    }

    /// Derives the status and hands it on.
    fn publish(&mut self, pod: &Arc<Pod>, observed: &PodObserved, is_terminal: bool) {
        let status = self.derive(pod, observed, is_terminal);
        self.status = status.clone();
        let is_finished = self.stage == Stage::Terminated;
        {
            let mut view = self.view.lock();
            view.allocated = Some(pod.clone());
            view.status = status.clone();
            view.is_finished = is_finished;
        }
        self.kubelet.statuses.set(&self.uid, status, is_finished);
    }

    fn derive(&self, pod: &Arc<Pod>, observed: &PodObserved, is_terminal: bool) -> PodStatus {
        let now = whole_second(daemon::clock::now());
        if let (true, Some(verdict)) = (self.is_rejected, &self.verdict) {
            return status::rejected(pod, verdict, self.status.start_time.as_ref().map_or(now, |start| start.0));
        }
        let probes = PodProbes::new(&self.kubelet.probes, pod);
        status::generate(&status::Inputs {
            pod,
            old: &self.status,
            observed,
            waiting: &self.waiting,
            readiness: &probes,
            verdict: self.verdict.as_ref(),
            actuated: self.ledger.as_ref().map(resize::Ledger::actuated),
            resize: &self.resize,
            recursive_read_only: self.mounts_recursively_read_only(pod, observed),
            is_terminal,
            host_ips: &self.kubelet.host_ips(),
            now,
        })
    }

    /// The sandbox knows which handler runs the pod. Before there is one, only the usual handler is known.
    fn mounts_recursively_read_only(&self, pod: &Pod, observed: &PodObserved) -> bool {
        let has_class = pod::spec(pod).runtime_class_name.as_deref().is_some_and(|name| !name.is_empty());
        let handler = match observed.sandboxes.first() {
            Some(sandbox) => sandbox.runtime_handler.as_str(),
            None if has_class => return false,
            None => "",
        };
        self.kubelet.runtime_state.mounts_recursively_read_only(handler)
    }

    async fn terminate(&mut self, pod: &Arc<Pod>, is_gone: bool) -> Next {
        let observed = match observe::pod(&*self.kubelet.runtime, &self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = pod::describe(pod), %error, "cannot observe a pod that ends");
                return Next::After(RETRY_KILL);
            }
        };
        self.kubelet.probes.terminating(&self.uid);
        self.publish(pod, &observed, false);
        let grace = if is_gone && !pod::is_deleted(pod) {
            pod::grace_seconds(pod).min(kill::GONE_GRACE_SECONDS)
        } else {
            pod::grace_seconds(pod)
        };
        if let Err(error) = self.kill_pod(pod, &observed, grace).await {
            self.events(pod).pod(EventType::Warning, "FailedKillPod", &format!("error killing pod: {error}"));
            return Next::After(RETRY_KILL);
        }
        self.kubelet.probes.remove(&self.uid);
        match observe::pod(&*self.kubelet.runtime, &self.uid).await {
            Ok(observed) if !observed.any_running() => self.finish(pod, &observed).await,
            _ => Next::After(RETRY_KILL),
        }
    }

    /// Nothing runs any more: give back what the pod had.
    async fn finish(&mut self, pod: &Arc<Pod>, observed: &PodObserved) -> Next {
        if let Err(error) = volumes::tear_down(&self.kubelet, &self.uid).await {
            tracing::warn!(pod = pod::describe(pod), %error, "cannot remove a pod's directory");
            self.publish(pod, observed, true);
            return Next::After(RETRY_KILL);
        }
        self.kubelet.cgroups.remove(&self.uid);
        self.kubelet.objects.forget(&self.uid);
        self.kubelet.tokens.forget(&self.uid);
        self.kubelet.certificates.forget(&self.uid);
        self.kubelet.images.forget(&self.uid);
        self.kubelet.crashes.forget(&self.uid);
        self.stage = Stage::Terminated;
        self.publish(pod, observed, true);
        Next::Now
    }

    /// Keeps the status known until the pod is gone from its source; then its containers and logs go.
    fn after_end(&mut self, desired: &Desired) -> Option<Next> {
        if !desired.gone {
            // A deletion of a finished pod ends with its final delete.
            self.kubelet.statuses.touch(&self.uid);
            return Some(Next::After(RESYNC));
        }
        self.kubelet.statuses.forget(&self.uid);
        collect::remove_later(&self.kubelet, &desired.pod);
        self.kubelet.pods.forget(&self.uid);
        None
    }
}

/// Times of the wire have whole seconds.
fn whole_second(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}
