//! Jobs: pods that run to their end, as many times as asked for.
//!
//! A pod that has ended is counted exactly once: its finalizer keeps it until its uid stands in the job's status, and
//! the uid stands there until the finalizer is gone. Only then is it added to the totals.

mod indexes;
mod per_index;
mod plan;
mod pod;
mod policy;
mod tracking;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::Selector,
};
use parking_lot::Mutex;
use reconcile::{Change, Expectations, Informer, Key, Queue, Recorder, controller_of, reference};
use serde_json::json;

use self::{
    plan::{Action, Failures, Plan},
    tracking::FINALIZER,
};
use crate::{
    Error, claim,
    context::{Context, Owner, Shared},
    error::{During as _, Tolerate as _, is_namespace_terminating},
    pod_control::{self, PodControl},
    pods,
};

const WORKERS: usize = 5;
/// Changes of pods come in bursts; the status is written once for each.
const BATCH: Duration = Duration::from_millis(100);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Job(Key),
    /// A pod whose job is gone.
    Orphan(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(key) => write!(f, "{key}"),
            Self::Orphan(key) => write!(f, "orphaned pod {key}"),
        }
    }
}

#[derive(Clone)]
struct Controller {
    client: Client,
    control: PodControl,
    recorder: Recorder,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    shared: Shared,
    queue: Queue<Work>,
    expectations: Expectations<Key>,
    failures: Arc<Mutex<HashMap<Key, Failures>>>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let recorder = context.recorder("job-controller");
    let controller = Controller {
        control: PodControl { client: context.client.clone(), recorder: recorder.clone() },
        client: context.client.clone(),
        recorder,
        jobs: context.informer(),
        pods: context.informer(),
        shared: context.shared.clone(),
        queue: Queue::new(),
        expectations: Expectations::new(),
        failures: Arc::default(),
    };
    controller.shared.pods_by_owner();
    controller.jobs.synced().await;
    let it = controller.clone();
    controller.jobs.handle(move |change| {
        let key = Key::of(&**change.object());
        if change.is_deleted() {
            it.expectations.forget(&key);
            it.failures.lock().remove(&key);
            it.release_pods_of(change.object());
        }
        it.queue.add(Work::Job(key));
    });
    let it = controller.clone();
    controller.pods.handle(move |change| it.pod_changed(change));
    controller.pods.synced().await;
    context.work("job-controller", &controller.queue, WORKERS, |work| controller.sync(work)).await;
    Ok(())
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let ending = change.is_deleted() || pod.metadata.deletion_timestamp.is_some();
        let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job") else {
            if controller_of(&pod.metadata).is_none() && !change.is_deleted() {
                self.nobodys(pod, ending);
            }
            return;
        };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let job = self.jobs.get(&namespace, &owner.name);
        if job.is_none_or(|job| job.metadata.uid.as_ref() != Some(&owner.uid)) {
            if !change.is_deleted() && tracking::is_tracked(pod) {
                self.queue.add(Work::Orphan(Key::of(&**pod)));
            }
            return;
        }
        let key = Key::new(namespace, owner.name.clone());
        match change {
            _ if ending => self.expectations.deleted(&key, pod.metadata.uid.as_deref().unwrap_or_default()),
            Change::Added(_) => self.expectations.created(&key),
            _ => {}
        }
        self.queue.add_after(Work::Job(key), BATCH);
    }

    /// A pod that belongs to nobody, perhaps because the garbage collector took its job from it.
    fn nobodys(&self, pod: &Pod, ending: bool) {
        if tracking::is_tracked(pod) {
            self.queue.add(Work::Orphan(Key::of(pod)));
        }
        if !ending {
            self.wake_matching(pod);
        }
    }

    fn wake_matching(&self, pod: &Pod) {
        for job in self.jobs.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            if selector(&job).is_ok_and(|it| claim::matches(&it, pod.metadata.labels.as_ref())) {
                self.queue.add(Work::Job(Key::of(&*job)));
            }
        }
    }

    fn release_pods_of(&self, job: &Job) {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        for pod in self.shared.pods_by_owner().get(&Owner::Controller(uid)) {
            self.queue.add(Work::Orphan(Key::of(&*pod)));
        }
    }

    async fn sync(&self, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Job(key) => self.sync_job(key).await,
            Work::Orphan(key) => self.sync_orphan(&key).await.map(|()| None),
        }
    }

    async fn sync_orphan(&self, key: &Key) -> Result<(), Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        // One that nobody controls has only been let go, or was taken from its job.
        if let Some(owner) = controller_of(&pod.metadata) {
            let api = Api::<Job>::namespaced(self.client.clone(), &key.namespace);
            let job = api.get_metadata_opt(&owner.name).await.during("get job of pod", key)?;
            let is_its = job.is_some_and(|job| job.metadata.uid.as_ref() == Some(&owner.uid));
            if is_its || owner.kind != "Job" {
                return Ok(());
            }
        }
        self.release(&pod).await
    }

    async fn sync_job(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else { return Ok(None) };
        if plan::is_managed_elsewhere(&job) {
            return Ok(None);
        }
        if plan::is_finished(&job) {
            // Those that were to be let go with the last status, should that have failed.
            let uid = job.metadata.uid.clone().unwrap_or_default();
            let left = self.shared.pods_by_owner().get(&Owner::Controller(uid));
            return self.release_all(&left).await.map(|()| None);
        }
        let selector = selector(&job)?;
        let mine = self.claim(&job, &selector).await?;
        if job.metadata.deletion_timestamp.is_some() {
            return self.release_all(&mine).await.map(|()| None);
        }
        let settled = self.expectations.satisfied(&key);
        let now = daemon::clock::now();
        let plan = {
            let mut all = self.failures.lock();
            plan::plan(&job, &mine, all.entry(key.clone()).or_default(), settled, now)
        };
        let Plan { status, action, release, again, events } = plan;
        let acted = self.act(&key, &job, action).await;
        self.write_status(&job, status).await?;
        for (type_, reason, message) in events {
            self.recorder.event(&*job, type_, reason, message);
        }
        // Their uids stand in the status now.
        self.release_all(&release).await?;
        acted.map(|()| again)
    }

    async fn claim(&self, job: &Job, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let index = self.shared.pods_by_owner();
        let namespace = job.metadata.namespace.clone().unwrap_or_default();
        let mine = index.get(&Owner::Controller(job.metadata.uid.clone().unwrap_or_default()));
        let candidates = mine.into_iter().chain(index.get(&Owner::Nobody { namespace }));
        let wanted = |pod: &Pod| claim::matches(selector, pod.metadata.labels.as_ref());
        let claims = claim::sort(&job.metadata, candidates, wanted);
        claim::settle_with(&self.client, job, claims, Some(FINALIZER)).await
    }

    async fn act(&self, key: &Key, job: &Arc<Job>, action: Action) -> Result<(), Error> {
        let owner = reference(&**job);
        match action {
            Action::Nothing => Ok(()),
            Action::Create(pods) => {
                self.expectations.expect(key.clone(), pods.len(), []);
                let (succeeded, failure) = pod_control::slow_start(pods.len(), |number| {
                    let (pod, owner) = (&pods[number], &owner);
                    async move {
                        match self.control.create(owner, pod).await {
                            Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(()),
                            done => done.map(drop),
                        }
                    }
                })
                .await;
                self.expectations.lower(key, pods.len() - succeeded);
                failure.map_or(Ok(()), Err)
            }
            Action::Delete(pods) => {
                let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
                self.expectations.expect(key.clone(), 0, uids);
                self.control.delete_all(&owner, &pods, |uid| self.expectations.deleted(key, uid)).await
            }
        }
    }

    async fn release_all(&self, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let released = futures::future::join_all(pods.iter().map(|pod| self.release(pod))).await;
        released.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// Lets a pod go.
    async fn release(&self, pod: &Pod) -> Result<(), Error> {
        if !tracking::is_tracked(pod) {
            return Ok(());
        }
        let key = Key::of(pod);
        let left: Vec<_> = pod.metadata.finalizers.iter().flatten().filter(|it| *it != FINALIZER).collect();
        let left = if left.is_empty() { serde_json::Value::Null } else { json!(left) };
        let meta = &pod.metadata;
        let patch =
            json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": left}});
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let patched = api.patch_metadata(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.during("release pod", key).found().map(drop)
    }

    async fn write_status(&self, job: &Job, status: JobStatus) -> Result<(), Error> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = Key::of(job);
        let mut changed = job.clone();
        changed.status = Some(status);
        let api = Api::<Job>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.map(drop).during("update the status of job", key)
    }
}

fn selector(job: &Job) -> Result<Selector, Error> {
    claim::selector(job, &job.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default())
}

/// The pod is meant to go on: neither ended nor told to.
fn is_active(pod: &Pod) -> bool {
    pods::is_active(pod)
}
