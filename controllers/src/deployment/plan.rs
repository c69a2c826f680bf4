//! One step of a deployment. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use reconcile::controller_ref;

use super::{progress, revision, rollout, scale};
use crate::{pods, template};

/// Limit of a replica set's name.
const MAX_NAME: usize = 253;

/// What is known of a deployment.
pub(super) struct Observed<'a> {
    pub(super) deployment: &'a Deployment,
    /// The sets it owns.
    pub(super) sets: Vec<Arc<ReplicaSet>>,
    /// Their pods by the set's uid; needed only when pods are recreated.
    pub(super) pods: HashMap<String, Vec<Arc<Pod>>>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Writes status and annotations.
    Status(Box<Deployment>),
    Create(Box<ReplicaSet>),
    /// Writes a set, and records an event when it was scaled.
    Update {
        set: Arc<ReplicaSet>,
        event: Option<String>,
    },
    Delete(String),
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// When to look again if nothing happens.
    pub(super) again: Option<Duration>,
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref().and_then(|it| it.type_.as_deref());
    strategy.is_none_or(|it| it == "RollingUpdate")
}

pub(super) fn plan(observed: Observed<'_>, now: Timestamp) -> Plan {
    let deployment = observed.deployment;
    let ending = deployment.metadata.deletion_timestamp.is_some();
    if !ending && let Some(status) = progress::paused(deployment, now) {
        let changed = Deployment { status: Some(status), ..deployment.clone() };
        return Plan { steps: vec![Step::Status(Box::new(changed))], again: None };
    }
    let mut planner = Planner::new(observed, now);
    planner.sync_revision();
    let paused = deployment.spec.paused.unwrap_or(false);
    if ending {
        planner.status = Some(planner.counted());
    } else if paused || planner.is_scaling() {
        planner.scale(paused);
    } else {
        planner.is_rollout = true;
        if is_rolling(deployment) { planner.roll() } else { planner.recreate() }
    }
    planner.finish()
}

struct Planner<'a> {
    deployment: &'a Deployment,
    /// As observed but for the revision annotation and conditions that were noted.
    changed: Deployment,
    original: Vec<Arc<ReplicaSet>>,
    /// By age; changed in place.
    sets: Vec<Arc<ReplicaSet>>,
    new: Option<usize>,
    create: Option<Box<ReplicaSet>>,
    delete: Vec<String>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    status: Option<DeploymentStatus>,
    again: Option<Duration>,
    is_rollout: bool,
    now: Timestamp,
}

impl<'a> Planner<'a> {
    fn new(observed: Observed<'a>, now: Timestamp) -> Self {
        let Observed { deployment, mut sets, pods } = observed;
        sets.sort_by(|one, other| scale::by_age(one, other));
        // Of several sets with this template the oldest counts.
        let new = sets.iter().position(|set| template::same(&deployment.spec.template, set.spec.template.as_ref()));
        Self {
            deployment,
            changed: deployment.clone(),
            original: sets.clone(),
            sets,
            new,
            create: None,
            delete: Vec::new(),
            pods,
            status: None,
            again: None,
            is_rollout: false,
            now,
        }
    }

    fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.map(|at| &*self.sets[at])
    }

    fn old(&self) -> Vec<Arc<ReplicaSet>> {
        let is_old = |at: &usize| Some(*at) != self.new;
        (0..self.sets.len()).filter(is_old).map(|at| self.sets[at].clone()).collect()
    }

    /// Where the old sets are in `sets`.
    fn old_places(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    fn counted(&self) -> DeploymentStatus {
        progress::counted(&self.changed, &self.sets, self.new_set(), self.now)
    }

    /// Brings the newest set's annotations up to date, and the deployment's revision after it.
    fn sync_revision(&mut self) {
        let next = revision::max_revision(&self.old()) + 1;
        let Some(at) = self.new else { return };
        let annotations = revision::annotations(self.deployment, &self.sets[at], next);
        let min_ready = self.deployment.spec.min_ready_seconds.unwrap_or(0);
        if self.sets[at].metadata.annotations.as_ref() != Some(&annotations) {
            Arc::make_mut(&mut self.sets[at]).metadata.annotations = Some(annotations);
        }
        if self.sets[at].spec.min_ready_seconds.unwrap_or(0) != min_ready {
            Arc::make_mut(&mut self.sets[at]).spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        }
        let of_set = revision::annotation(&self.sets[at], revision::REVISION).unwrap_or_default().to_owned();
        self.set_revision(of_set);
        let status = self.changed.status.get_or_insert_default();
        let unknown = progress::condition(status, progress::PROGRESSING).is_none();
        if progress::deadline(self.deployment).is_some() && unknown {
            let name = self.sets[at].metadata.name.as_deref().unwrap_or_default();
            let message = format!("Found new replica set \"{name}\"");
            progress::note(status, progress::NEW_FOUND, &message, self.now);
        }
    }

    fn set_revision(&mut self, revision: String) {
        self.changed.metadata.annotations.get_or_insert_default().insert(revision::REVISION.to_owned(), revision);
    }

    /// The deployment's size changed since a set with pods was last scaled.
    fn is_scaling(&self) -> bool {
        let wanted = scale::wanted(self.deployment);
        let active = self.sets.iter().filter(|set| scale::replicas(set) > 0);
        active.filter_map(|set| revision::desired(set)).any(|desired| desired != wanted)
    }

    fn scale(&mut self, paused: bool) {
        self.scale_sets();
        if paused {
            self.delete = rollout::surplus(self.deployment, &self.old());
        }
        self.status = Some(self.counted());
    }

    fn scale_sets(&mut self) {
        let wanted = scale::wanted(self.deployment);
        let active: Vec<usize> = (0..self.sets.len()).filter(|at| scale::replicas(&self.sets[*at]) > 0).collect();
        match active.as_slice() {
            [] => {
                // The newest, else the youngest.
                if let Some(at) = self.new.or_else(|| self.sets.len().checked_sub(1)) {
                    self.resize(at, wanted);
                }
            }
            [only] => self.resize(*only, wanted),
            _ if self.is_saturated() => {
                for at in self.old_places() {
                    self.resize(at, 0);
                }
            }
            _ if is_rolling(self.deployment) => self.scale_in_proportion(&active),
            _ => {}
        }
    }

    fn scale_in_proportion(&mut self, active: &[usize]) {
        let mut sets: Vec<_> = active.iter().map(|at| self.sets[*at].clone()).collect();
        let sizes = scale::proportional(self.deployment, &mut sets);
        for (set, size) in sets.iter().zip(sizes) {
            let same = |at: &&usize| self.sets[**at].metadata.name == set.metadata.name;
            let at = *active.iter().find(same).expect("the sets were taken from these places");
            self.force_size(at, size);
        }
    }

    /// The newest set has all replicas, available, and was sized for this deployment.
    fn is_saturated(&self) -> bool {
        let wanted = scale::wanted(self.deployment);
        self.new_set().is_some_and(|set| {
            let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
            scale::replicas(set) == wanted && revision::desired(set) == Some(wanted) && available == wanted
        })
    }

    fn resize(&mut self, at: usize, size: i32) {
        if scale::replicas(&self.sets[at]) != size {
            self.force_size(at, size);
        }
    }

    /// Sets the size, and notes the deployment's size even if the set's own stays.
    fn force_size(&mut self, at: usize, size: i32) {
        let wanted = scale::wanted(self.deployment);
        let mut sized = (*self.sets[at]).clone();
        sized.spec.replicas = Some(size);
        revision::set_sizes(&mut sized, wanted, wanted + scale::max_surge(self.deployment));
        if sized != *self.sets[at] {
            self.sets[at] = Arc::new(sized);
        }
    }

    fn roll(&mut self) {
        let Some(new) = self.new else { return self.create_new() };
        if let Some(size) = rollout::grow(self.deployment, &self.sets, &self.sets[new]) {
            self.resize(new, size);
        } else {
            let places = self.old_places();
            for (at, size) in rollout::shrink(self.deployment, &self.old(), &self.sets[new]) {
                self.resize(places[at], size);
            }
        }
        self.finish_rollout();
    }

    fn recreate(&mut self) {
        let places = self.old_places();
        let shrinking = places.iter().any(|at| scale::replicas(&self.sets[*at]) > 0);
        for at in places {
            self.resize(at, 0);
        }
        if shrinking || self.old_pods_run() {
            self.status = Some(progress::rolling(&self.changed, &self.sets, self.new_set(), self.now));
            return;
        }
        let Some(new) = self.new else { return self.create_new() };
        self.resize(new, scale::wanted(self.deployment));
        self.finish_rollout();
    }

    fn old_pods_run(&self) -> bool {
        let new_uid = self.new_set().and_then(|set| set.metadata.uid.clone());
        let counted = self.old().iter().any(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0));
        let others = self.pods.iter().filter(|(uid, _)| Some(*uid) != new_uid.as_ref());
        counted || others.flat_map(|(_, pods)| pods).any(|pod| !pods::is_terminal(pod))
    }

    fn finish_rollout(&mut self) {
        let resized = self.sets.iter().zip(&self.original).any(|(now, was)| now.spec.replicas != was.spec.replicas);
        let complete = progress::is_complete(self.deployment, &self.deployment.status.clone().unwrap_or_default());
        if !resized && complete {
            self.delete = rollout::surplus(self.deployment, &self.old());
        }
        self.status = Some(progress::rolling(&self.changed, &self.sets, self.new_set(), self.now));
    }

    fn create_new(&mut self) {
        let deployment = self.deployment;
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&deployment.spec.template, collisions);
        let mut pod_template = deployment.spec.template.clone();
        let labels = pod_template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(template::HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = deployment.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(template::HASH_LABEL.to_owned(), hash.clone());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name(deployment.metadata.name.as_deref().unwrap_or_default(), &hash)),
                namespace: deployment.metadata.namespace.clone(),
                owner_references: Some(vec![controller_ref(deployment)]),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(scale::new_size(deployment, &self.sets, 0)),
                min_ready_seconds: deployment.spec.min_ready_seconds,
                selector,
                template: Some(pod_template),
            },
            status: None,
        };
        let next = revision::max_revision(&self.sets) + 1;
        set.metadata.annotations = Some(revision::annotations(deployment, &set, next));
        let wanted = scale::wanted(deployment);
        revision::set_sizes(&mut set, wanted, wanted + scale::max_surge(deployment));
        self.set_revision(next.to_string());
        if progress::deadline(deployment).is_some() {
            let message = format!("Created new replica set \"{}\"", set.metadata.name.as_deref().unwrap_or_default());
            progress::note(self.changed.status.get_or_insert_default(), progress::NEW_CREATED, &message, self.now);
        }
        self.create = Some(Box::new(set));
    }

    fn finish(mut self) -> Plan {
        if let Some(status) = self.status.take() {
            // Only a rollout has a deadline: a paused deployment may stay as it is.
            self.again = progress::next_check(self.deployment, &status, self.now).filter(|_| self.is_rollout);
            self.changed.status = Some(status);
        }
        let mut steps: Vec<Step> = self.create.take().map(Step::Create).into_iter().collect();
        for (set, was) in self.sets.iter().zip(&self.original) {
            if set != was {
                steps.push(Step::Update { set: set.clone(), event: event(was, set) });
            }
        }
        steps.extend(self.delete.drain(..).map(Step::Delete));
        let same_status = normal(self.changed.status.as_ref()) == normal(self.deployment.status.as_ref());
        if !same_status || self.changed.metadata != self.deployment.metadata {
            steps.push(Step::Status(Box::new(self.changed)));
        }
        Plan { steps, again: self.again }
    }
}

/// A status in which nothing and zero are the same.
fn normal(status: Option<&DeploymentStatus>) -> DeploymentStatus {
    let mut status = status.cloned().unwrap_or_default();
    let counts = [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
    ];
    for count in counts {
        *count = count.filter(|count| *count != 0);
    }
    status.conditions = status.conditions.filter(|list| !list.is_empty());
    status
}

fn event(was: &ReplicaSet, set: &ReplicaSet) -> Option<String> {
    let (from, to) = (scale::replicas(was), scale::replicas(set));
    let direction = match to.cmp(&from) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => "up",
        std::cmp::Ordering::Less => "down",
    };
    let name = set.metadata.name.as_deref().unwrap_or_default();
    Some(format!("Scaled {direction} replica set {name} from {from} to {to}"))
}

fn name(deployment: &str, hash: &str) -> String {
    let most = MAX_NAME.saturating_sub(hash.len() + 1);
    format!("{}-{hash}", &deployment[..deployment.len().min(most)])
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
