//! Cron jobs: makes a job whenever a schedule says so.

mod plan;
mod schedule;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use reconcile::{EventType, Index, Informer, Key, Queue, Recorder, controller_of};

use self::plan::Plan;
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _, is_namespace_terminating, status_code},
};

const WORKERS: usize = 5;

struct Controller {
    client: Client,
    recorder: Recorder,
    crons: Informer<CronJob>,
    /// By the uid of their cron job.
    jobs: Index<String, Job>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let jobs = context.informer::<Job>();
    let owner = |job: &Job| controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob").cloned();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("cronjob-controller"),
        crons: context.informer(),
        jobs: Index::new(&jobs, move |job| owner(job).map(|owner| owner.uid).into_iter().collect()),
    };
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    controller.crons.handle(move |change| changed.add(Key::of(&**change.object())));
    let changed = queue.clone();
    jobs.handle(move |change| {
        let job = change.object();
        if let Some(owner) = owner(job) {
            changed.add(Key::new(job.namespace().unwrap_or_default(), owner.name));
        }
    });
    controller.crons.synced().await;
    jobs.synced().await;
    context.work("cronjob-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else { return Ok(None) };
        let jobs = self.jobs.get(cron.metadata.uid.as_deref().unwrap_or_default());
        let Some(cron) = self.latest(cron, &jobs).await? else { return Ok(None) };
        let gone = self.missing(&cron, &jobs).await?;
        let Plan { mut status, start, replace, surplus, again, events } =
            plan::plan(&cron, &jobs, &gone, daemon::clock::now());
        for (type_, reason, message) in events {
            self.recorder.event(&*cron, type_, reason, message);
        }
        for name in replace.iter().chain(&surplus) {
            self.delete(&cron, name).await?;
        }
        if let Some((at, job)) = start {
            match self.start(&cron, &job).await {
                Ok(Some(job)) => plan::note_start(&mut status, &job, at),
                Ok(None) => {}
                Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.write_status(&cron, status).await?;
        Ok(again)
    }

    /// The cron job as the cache has it, unless a job runs that it does not know: the cache may be behind the start.
    async fn latest(&self, cron: Arc<CronJob>, jobs: &[Arc<Job>]) -> Result<Option<Arc<CronJob>>, Error> {
        let active = cron.status.as_ref().and_then(|status| status.active.as_deref()).unwrap_or_default();
        let is_known = |job: &Arc<Job>| active.iter().any(|it| it.uid == job.metadata.uid);
        if jobs.iter().all(|job| plan::ended(job).is_some() || is_known(job)) {
            return Ok(Some(cron));
        }
        let key = Key::of(&*cron);
        let api = Api::<CronJob>::namespaced(self.client.clone(), &key.namespace);
        let latest = api.get_opt(&key.name).await.during("get cron job", key)?;
        Ok(latest.filter(|latest| latest.metadata.uid == cron.metadata.uid).map(Arc::new))
    }

    /// Uids of jobs that are said to be active and are not there.
    async fn missing(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<BTreeSet<String>, Error> {
        let mut gone = BTreeSet::new();
        let active = cron.status.as_ref().and_then(|status| status.active.as_deref()).unwrap_or_default();
        for reference in active {
            let known = jobs.iter().any(|job| job.metadata.uid == reference.uid);
            let Some(name) = reference.name.as_deref().filter(|_| !known) else { continue };
            let api =
                Api::<Job>::namespaced(self.client.clone(), cron.metadata.namespace.as_deref().unwrap_or_default());
            if api.get_opt(name).await.during("get job", name)?.is_none() {
                gone.extend(reference.uid.clone());
            }
        }
        Ok(gone)
    }

    async fn delete(&self, cron: &CronJob, name: &str) -> Result<(), Error> {
        let namespace = cron.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<Job>::namespaced(self.client.clone(), &namespace);
        let deleted = api.delete(name, &DeleteParams::background()).await.map(drop);
        match deleted.during("delete job", format_args!("{namespace}/{name}")).found() {
            Ok(Some(())) => {
                self.recorder.event(cron, EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {}", error.message());
                self.recorder.event(cron, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }

    /// The started job; nothing when another of that name is in the way.
    async fn start(&self, cron: &CronJob, job: &Job) -> Result<Option<Job>, Error> {
        let namespace = cron.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<Job>::namespaced(self.client.clone(), &namespace);
        let created = api.create(&PostParams::default(), job).await;
        if matches!(&created, Err(error) if status_code(error) == Some(409)) {
            // Started before, but not noted.
            let present = api.get(&job.name_any()).await.during("get job", job.name_any())?;
            let mine = controller_of(&present.metadata).map(|owner| owner.uid.clone()) == cron.metadata.uid;
            return Ok(mine.then_some(present));
        }
        match created.during("create job", format_args!("{namespace}/{}", job.name_any())) {
            Ok(created) => {
                let message = format!("Created job {}", created.name_any());
                self.recorder.event(cron, EventType::Normal, "SuccessfulCreate", message);
                Ok(Some(created))
            }
            Err(error) if error.is_namespace_terminating() => Err(error),
            Err(error) => {
                let message = format!("Error creating job: {}", error.message());
                self.recorder.event(cron, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn write_status(&self, cron: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let key = Key::of(cron);
        let changed = CronJob { status: Some(status), ..cron.clone() };
        let api = Api::<CronJob>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.map(drop).during("update the status of cron job", key)
    }
}
