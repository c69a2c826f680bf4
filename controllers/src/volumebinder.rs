//! Binds volume claims to volumes, and reclaims volumes whose claim is gone.
//!
//! A binding is written in four steps, each of which can be repeated: the volume names the claim, the volume is Bound,
//! the claim names the volume, the claim is Bound. Whoever sees a half of it finishes it. Volumes are made and deleted
//! by provisioners of their own: here a claim is only handed to one.

mod bind;
mod claim;
#[cfg(test)]
mod tests;
mod told;
mod volume;

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use reconcile::{EventType, Index, Informer, Key, Queue, Recorder};

use self::{
    bind::{BIND_COMPLETED, class_of_claim},
    claim::{ClaimStep, Event, Surroundings},
    told::Told,
    volume::VolumeStep,
};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
    pods, protection,
};

/// One: two claims that are looked at together would want the same volume.
const WORKERS: usize = 1;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Claim(Key),
    Volume(String),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "volume claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

#[derive(Clone)]
struct Controller {
    client: Client,
    recorder: Recorder,
    claims: Informer<PersistentVolumeClaim>,
    claims_by_volume: Index<String, PersistentVolumeClaim>,
    open_claims_by_class: Index<String, PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    volumes_by_claim_uid: Index<String, PersistentVolume>,
    classes: Informer<StorageClass>,
    pods: Informer<Pod>,
    pods_by_claim: Index<Key, Pod>,
    told: Told,
    queue: Queue<Work>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let (claims, pods) = (context.informer::<PersistentVolumeClaim>(), context.informer::<Pod>());
    let volumes = context.informer::<PersistentVolume>();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("persistentvolume-controller"),
        claims_by_volume: Index::new(&claims, |claim| vec![bind::volume_name(claim).to_owned()]),
        open_claims_by_class: Index::new(&claims, |claim| claim::open_class(claim).into_iter().collect()),
        claims,
        volumes_by_claim_uid: Index::new(&volumes, |volume| volume::claim_uid(volume).into_iter().collect()),
        volumes,
        classes: context.informer(),
        pods_by_claim: Index::new(&pods, protection::plan::claims_of),
        pods,
        told: Told::default(),
        queue: Queue::new(),
    };
    let it = controller.clone();
    controller.claims.handle(move |change| {
        let claim = change.object();
        it.queue.add(Work::Claim(Key::of(&**claim)));
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
        volume.filter(|name| !name.is_empty()).into_iter().for_each(|name| it.queue.add(Work::Volume(name)));
        if change.is_deleted() {
            it.wake_volumes_of(claim);
        }
    });
    let it = controller.clone();
    controller.volumes.handle(move |change| {
        it.queue.add(Work::Volume(change.object().name_any()));
        it.wake_claims_of(change.object());
        if let Some(class) = volume::freed_in(change) {
            let open = it.open_claims_by_class.get(class);
            open.iter().for_each(|claim| it.queue.add(Work::Claim(Key::of(&**claim))));
        }
    });
    let it = controller.clone();
    controller.classes.handle(move |_| it.wake_open_claims());
    controller.claims.synced().await;
    controller.volumes.synced().await;
    controller.classes.synced().await;
    controller.pods.synced().await;
    context.work("persistentvolume-binder-controller", &controller.queue, WORKERS, |work| controller.sync(work)).await;
    Ok(())
}

impl Controller {
    /// Whoever has the volume or is to have it may have lost or found it.
    fn wake_claims_of(&self, volume: &PersistentVolume) {
        let naming = self.claims_by_volume.get(&volume.name_any());
        let named = bind::claim_ref(volume).map(volume::key_of);
        for key in naming.iter().map(|claim| Key::of(&**claim)).chain(named) {
            self.queue.add(Work::Claim(key));
        }
    }

    /// A claim that goes before its binding is complete names no volume, but a volume may name it.
    fn wake_volumes_of(&self, claim: &PersistentVolumeClaim) {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        for volume in self.volumes_by_claim_uid.get(uid) {
            self.queue.add(Work::Volume(volume.name_any()));
        }
    }

    /// The class that has come or changed may be what a claim waits for.
    fn wake_open_claims(&self) {
        let is_open = |claim: &&Arc<PersistentVolumeClaim>| !claim.annotations().contains_key(BIND_COMPLETED);
        for claim in self.claims.list().iter().filter(is_open) {
            self.queue.add(Work::Claim(Key::of(&**claim)));
        }
    }

    async fn sync(&self, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Claim(key) => self.sync_claim(&key).await?,
            Work::Volume(name) => self.sync_volume(&name).await?,
        }
        Ok(None)
    }

    async fn sync_claim(&self, key: &Key) -> Result<(), Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            self.told.forget(key);
            return Ok(());
        };
        let (volumes, classes, users) = (self.volumes.list(), self.classes.list(), self.pods_by_claim.get(key));
        let waiting = users.iter().filter(|pod| !pods::is_terminal(pod) && pods::node(pod).is_empty());
        let around = Surroundings {
            volumes: &volumes,
            class: self.classes.get("", class_of_claim(&claim)),
            default_class: claim::default_class(&classes),
            waiting_pods: waiting.map(|pod| pod.name_any()).collect(),
        };
        let step = claim::plan(&claim, &around);
        if !step.is_wait() {
            self.told.forget(key);
        }
        match step {
            ClaimStep::Nothing => Ok(()),
            ClaimStep::Bind(volume) => self.bind(&claim, &volume).await,
            ClaimStep::Wait { event } => {
                event.into_iter().for_each(|event| self.tell(&claim, event));
                self.write_claim_status(&claim, bind::pending_status(&claim)).await.map(drop)
            }
            ClaimStep::SetClass(name) => {
                let mut changed = (*claim).clone();
                changed.spec.get_or_insert_default().storage_class_name = Some(name);
                self.write_claim(&changed).await.map(drop)
            }
            ClaimStep::HandOver { provisioner } => self.hand_over(&claim, &provisioner).await,
            ClaimStep::Lose { reason, message } => {
                if self.write_claim_status(&claim, bind::lost_status(&claim)).await?.is_some() {
                    self.recorder.event(&*claim, EventType::Warning, reason, message.to_owned());
                }
                Ok(())
            }
        }
    }

    /// Says why the claim waits, unless that was said already.
    fn tell(&self, claim: &PersistentVolumeClaim, (type_, reason, message): Event) {
        if self.told.is_news(claim, reason, &message) {
            self.recorder.event(claim, type_, reason, message);
        }
    }

    /// The provisioner makes a volume for the claim, which is bound when it has come.
    async fn hand_over(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), Error> {
        let changed = bind::handed_over(claim, provisioner);
        let claim = match changed {
            Some(changed) => self.write_claim(&changed).await?.unwrap_or(changed),
            None => claim.clone(),
        };
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.tell(&claim, (EventType::Normal, "ExternalProvisioning", message));
        self.write_claim_status(&claim, bind::pending_status(&claim)).await.map(drop)
    }

    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        let mut volume = volume.clone();
        if let Some(changed) = bind::bound_volume(&volume, claim) {
            let Some(written) = self.write_volume(&changed).await? else { return Ok(()) };
            volume = written;
        }
        self.write_phase(&volume, "Bound", "").await?;
        let mut claim = claim.clone();
        if let Some(changed) = bind::bound_claim(&claim, &volume) {
            let Some(written) = self.write_claim(&changed).await? else { return Ok(()) };
            claim = written;
        }
        self.write_claim_status(&claim, bind::bound_status(&claim, &volume)).await.map(drop)
    }

    async fn sync_volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.get("", name) else { return Ok(()) };
        let claim = match volume::claim_of(&volume) {
            Some(key) => self.claim_of(&volume, &key).await?,
            None => None,
        };
        match volume::plan(&volume, claim.as_ref()) {
            VolumeStep::Nothing => Ok(()),
            VolumeStep::Phase(phase) => self.write_phase(&volume, phase, "").await.map(drop),
            VolumeStep::WakeClaim(key) => {
                self.queue.add(Work::Claim(key));
                Ok(())
            }
            VolumeStep::Mismatch => {
                claim.iter().for_each(|claim| self.tell_mismatch(&volume, claim));
                Ok(())
            }
            VolumeStep::Unbind => {
                let Some(written) = self.write_volume(&bind::unbound_volume(&volume)).await? else { return Ok(()) };
                self.write_phase(&written, "Available", "").await.map(drop)
            }
            VolumeStep::Reclaim => self.reclaim(&volume).await,
        }
    }

    fn tell_mismatch(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) {
        const REASON: &str = "VolumeMismatch";
        let why = "due to incompatible volumeMode.";
        let (of_volume, of_claim) = (volume.name_any(), claim.name_any());
        let message = format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {of_claim:?} {why}");
        self.recorder.event(volume, EventType::Warning, REASON, message);
        let message = format!("Cannot bind PersistentVolume {of_volume:?} to requested PersistentVolumeClaim {why}");
        self.recorder.event(claim, EventType::Warning, REASON, message);
    }

    /// The claim that a volume is bound to, if it still exists. The cache may be behind: a volume that is reclaimed too
    /// early takes data along.
    async fn claim_of(&self, volume: &PersistentVolume, key: &Key) -> Result<Option<PersistentVolumeClaim>, Error> {
        let is_it = |claim: &PersistentVolumeClaim| volume::is_of(volume, claim);
        let cached = self.claims.get(&key.namespace, &key.name);
        if let Some(claim) = cached.filter(|claim| is_it(claim)) {
            return Ok(Some((*claim).clone()));
        }
        if volume::is_released(volume) {
            return Ok(None);
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let claim = api.get_opt(&key.name).await.during("get volume claim", key)?;
        Ok(claim.filter(is_it))
    }

    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let released;
        let volume = if volume::is_released(volume) {
            volume
        } else {
            let Some(written) = self.write_phase(volume, "Released", "").await? else { return Ok(()) };
            released = written;
            &released
        };
        if let Some((reason, message)) = volume::refuse_to_reclaim(volume)
            && self.write_phase(volume, "Failed", &message).await?.is_some()
        {
            self.recorder.event(volume, EventType::Warning, reason, message);
        }
        Ok(())
    }

    /// None when there was nothing to write, or the volume is gone.
    async fn write_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<Option<PersistentVolume>, Error> {
        let Some(changed) = bind::with_phase(volume, phase, message, daemon::clock::now()) else { return Ok(None) };
        let name = volume.name_any();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        api.replace_status(&name, &PostParams::default(), &changed)
            .await
            .during("update the status of volume", name)
            .found()
    }

    async fn write_volume(&self, volume: &PersistentVolume) -> Result<Option<PersistentVolume>, Error> {
        let name = volume.name_any();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        api.replace(&name, &PostParams::default(), volume).await.during("update volume", name).found()
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<Option<PersistentVolumeClaim>, Error> {
        let key = Key::of(claim);
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        api.replace(&key.name, &PostParams::default(), claim).await.during("update volume claim", key).found()
    }

    async fn write_claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        status: k8s_openapi::api::core::v1::PersistentVolumeClaimStatus,
    ) -> Result<Option<PersistentVolumeClaim>, Error> {
        if claim.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        let (key, changed) = (Key::of(claim), PersistentVolumeClaim { status: Some(status), ..claim.clone() });
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.during("update the status of volume claim", key).found()
    }
}
