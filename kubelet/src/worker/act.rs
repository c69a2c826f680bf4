//! Carries out a plan.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use reconcile::EventType;

use super::start::Context;
use super::{Next, RESYNC, RETRY, Worker};
use crate::observe;
use crate::observed::PodObserved;
use crate::plan::{Actions, add_resizes, compute_actions};
use crate::pod;
use crate::spec::sandbox;
use crate::volumes::{self, ImageVolumes, Volumes};

impl Worker {
    pub(super) async fn act(&mut self, pod: &Arc<Pod>, observed: PodObserved, volumes: &Volumes) -> Next {
        let mut actions = compute_actions(pod, &observed, &*self.kubelet.probes);
        if let Some(ledger) = &self.ledger {
            add_resizes(pod, &observed, ledger.actuated(), &mut actions);
        }
        if self.resize.in_progress.is_some() {
            self.settle_resize(pod, &actions);
            self.publish(pod, &observed, false);
        }
        if actions.is_empty() {
            self.collect_dead(pod, &observed).await;
            // Room may be made for a resize by any other pod's end.
            return Next::After(if self.resize.pending.is_some() { RETRY } else { RESYNC });
        }
        match self.carry_out(pod, observed, volumes, &actions).await {
            Ok(()) => Next::Now,
            Err(delay) => {
                // What failed shows in the status at once. A container that never starts leaves a dead one each time.
                if let Ok(observed) = observe::pod(&*self.kubelet.runtime, &self.uid).await {
                    self.publish(pod, &observed, false);
                    self.collect_dead(pod, &observed).await;
                }
                Next::After(delay)
            }
        }
    }

    /// An error is the time to wait before the next try.
    async fn carry_out(
        &mut self,
        pod: &Arc<Pod>,
        observed: PodObserved,
        volumes: &Volumes,
        actions: &Actions,
    ) -> Result<(), Duration> {
        if actions.kill_pod {
            self.stop_everything(pod, &observed, actions).await?;
            if !actions.create_sandbox {
                return Ok(());
            }
        }
        for kill in &actions.to_kill {
            if let Err(error) = self.kill_container(pod, kill).await {
                tracing::warn!(pod = pod::describe(pod), container = kill.name, %error, "cannot kill a container");
                return Err(RETRY);
            }
        }
        // A container that cannot be resized keeps no other one from being started.
        let resized = self.resize_containers(pod, &observed, &actions.to_resize).await.map_err(|error| {
            tracing::warn!(pod = pod::describe(pod), error, "cannot resize a container");
            RETRY
        });
        let config = self.sandbox_config(pod, actions.attempt)?;
        let sandbox_id = actions.sandbox_id.clone();
        let mut context = Context { observed, volumes, images: ImageVolumes::new(), sandbox: config, sandbox_id };
        if actions.create_sandbox {
            context.sandbox_id = self.create_sandbox(pod, &context).await?;
            context.observed = observe::pod(&*self.kubelet.runtime, &self.uid).await.map_err(|_| RETRY)?;
            self.publish(pod, &context.observed, false);
        }
        if actions.starts_any() {
            context.images = volumes::images(&self.kubelet, pod, &context.sandbox).await;
        }
        sooner(self.start_all(pod, &context, actions).await, resized)
    }

    async fn stop_everything(
        &mut self,
        pod: &Arc<Pod>,
        observed: &PodObserved,
        actions: &Actions,
    ) -> Result<(), Duration> {
        if actions.create_sandbox && !observed.sandboxes.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.events(pod).pod(EventType::Normal, "SandboxChanged", message);
        }
        let grace = pod::grace_seconds(pod);
        self.kill_pod(pod, observed, grace).await.map_err(|error| {
            tracing::warn!(pod = pod::describe(pod), %error, "cannot stop a pod");
            RETRY
        })
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> Result<cri::v1::PodSandboxConfig, Duration> {
        let resolvers = self.kubelet.resolvers();
        let config = sandbox::build(sandbox::Inputs {
            pod,
            attempt,
            dns: crate::spec::dns::for_pod(pod, &resolvers),
            cluster_domain: &resolvers.cluster_domain,
            cgroup_parent: self.kubelet.cgroups.parent(pod),
            logs_root: &self.kubelet.config.pod_logs_dir,
        });
        config.map_err(|message| {
            let message = format!("Failed to create pod sandbox: {message}");
            self.events(pod).pod(EventType::Warning, "FailedCreatePodSandBox", &message);
            RETRY
        })
    }

    async fn create_sandbox(&self, pod: &Arc<Pod>, context: &Context<'_>) -> Result<String, Duration> {
        let failed = |error: String| {
            let message = format!("Failed to create pod sandbox: {error}");
            self.events(pod).pod(EventType::Warning, "FailedCreatePodSandBox", &message);
            RETRY
        };
        if pod::spec(pod).host_users == Some(false) {
            return Err(failed("can't set `spec.hostUsers: false`, runtime does not support user namespaces".into()));
        }
        std::fs::create_dir_all(&context.sandbox.log_directory).map_err(|error| failed(error.to_string()))?;
        let handler = self.runtime_handler(pod).await.map_err(failed)?;
        let made = self.kubelet.runtime.run_sandbox(context.sandbox.clone(), &handler).await;
        made.map_err(|error| failed(error.to_string()))
    }

    /// The runtime's name for the pod's class of runtime; empty for the usual one.
    async fn runtime_handler(&self, pod: &Pod) -> Result<String, String> {
        let Some(name) = pod::spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(String::new());
        };
        let classes: kube::Api<RuntimeClass> = kube::Api::all(self.kubelet.client.clone());
        match classes.get_opt(name).await {
            Ok(Some(class)) => Ok(class.handler),
            Ok(None) => Err(format!("failed to get sandbox runtime: no RuntimeClass {name:?} found")),
            Err(error) => Err(crate::objects::api_message(&error)),
        }
    }

    /// Starts what the plan names; the first init container that fails stops the rest.
    async fn start_all(&mut self, pod: &Arc<Pod>, context: &Context<'_>, actions: &Actions) -> Result<(), Duration> {
        let mut outcome = Ok(());
        for index in &actions.ephemeral_to_start {
            let ephemeral = &pod::ephemeral_containers(pod)[*index];
            let container = pod::ephemeral_as_container(ephemeral);
            let target = ephemeral.target_container_name.as_deref();
            outcome = sooner(outcome, self.start(pod, &container, context, target).await);
        }
        for index in &actions.init_to_start {
            let container = &pod::init_containers(pod)[*index];
            let started = self.start(pod, container, context, None).await;
            let failed = started.is_err();
            outcome = sooner(outcome, started);
            if failed && !pod::is_sidecar(container) {
                return outcome;
            }
        }
        for index in &actions.to_start {
            let container = &pod::spec(pod).containers[*index];
            outcome = sooner(outcome, self.start(pod, container, context, None).await);
        }
        outcome
    }
}

/// The shorter of two waits.
fn sooner(a: Result<(), Duration>, b: Result<(), Duration>) -> Result<(), Duration> {
    match (a, b) {
        (Err(a), Err(b)) => Err(a.min(b)),
        (Err(delay), _) | (_, Err(delay)) => Err(delay),
        _ => Ok(()),
    }
}
