//! Stopping containers: hook, signal, grace, kill; sidecars after the containers they serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use reconcile::EventType;

use super::{Worker, hooks};
use crate::events::Events;
use crate::observed::{Observed, PodObserved};
use crate::plan::{Kill, KillReason};
use crate::pod;

/// Even without grace a container gets a moment for the signal.
const MINIMUM_GRACE_SECONDS: i64 = 2;
/// Grace of a pod that vanished from its source without being deleted first.
pub(super) const GONE_GRACE_SECONDS: i64 = 30;

impl Worker {
    /// Kills one container for a reason of its own.
    pub(super) async fn kill_container(&self, pod: &Arc<Pod>, kill: &Kill) -> Result<(), cri::Error> {
        let container = pod::find_container(pod, &kill.name);
        let grace = grace_for(pod, container.as_ref(), kill.reason);
        self.stop(pod, &kill.id, &kill.name, &kill.message, grace).await
    }

    /// Stops everything the pod runs. Regular containers first, then sidecars from the last to the first.
    pub(super) async fn kill_pod(&self, pod: &Arc<Pod>, observed: &PodObserved, grace: i64) -> Result<(), cri::Error> {
        let began = Instant::now();
        let left = || grace - i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let (sidecars, others): (Vec<&Observed>, Vec<&Observed>) = observed.running().partition(|c| is_sidecar(pod, c));
        let stops = others.iter().map(|c| self.stop(pod, &c.id, &c.name, "", grace));
        for outcome in join_all(stops).await {
            outcome?;
        }
        for sidecar in in_reverse(pod, sidecars) {
            self.stop(pod, &sidecar.id, &sidecar.name, "", left().max(0)).await?;
        }
        // One whose first process has died has its address all the same.
        for sandbox in &observed.sandboxes {
            match self.kubelet.runtime.stop_sandbox(&sandbox.id).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn stop(&self, pod: &Arc<Pod>, id: &str, name: &str, message: &str, grace: i64) -> Result<(), cri::Error> {
        let events = Events::of_container(&self.kubelet.recorder, pod, name);
        let default = format!("Stopping container {name}");
        events.container(EventType::Normal, "Killing", if message.is_empty() { &default } else { message });
        let mut grace = grace;
        if grace > 0 {
            grace -= self.pre_stop(pod, id, name, grace, &events).await;
        }
        let grace = Duration::from_secs(u64::try_from(grace.max(MINIMUM_GRACE_SECONDS)).unwrap_or(0));
        match self.kubelet.runtime.stop_container(id, grace).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the seconds that the hook took.
    async fn pre_stop(&self, pod: &Arc<Pod>, id: &str, name: &str, grace: i64, events: &Events<'_>) -> i64 {
        let Some(container) = pod::find_container(pod, name) else { return 0 };
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
            return 0;
        };
        let began = Instant::now();
        let ip = self.status.pod_ip.as_deref();
        let run = hooks::run(&*self.kubelet.runtime, hook, id, &container, ip);
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if let Ok(Err(_)) = tokio::time::timeout(limit, run).await {
            events.container(EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
        }
        i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX).min(grace)
    }
}

fn is_sidecar(pod: &Pod, observed: &Observed) -> bool {
    pod::init_containers(pod).iter().any(|c| c.name == observed.name && pod::is_sidecar(c))
}

fn in_reverse<'a>(pod: &Pod, mut sidecars: Vec<&'a Observed>) -> Vec<&'a Observed> {
    let position = |name: &str| pod::init_containers(pod).iter().position(|c| c.name == name);
    sidecars.sort_by_key(|c| std::cmp::Reverse(position(&c.name)));
    sidecars
}

/// A probe may have a grace period of its own.
fn grace_for(pod: &Pod, container: Option<&Container>, reason: KillReason) -> i64 {
    let probe = container.and_then(|container| match reason {
        KillReason::LivenessProbe => container.liveness_probe.as_ref(),
        KillReason::StartupProbe => container.startup_probe.as_ref(),
        KillReason::Other => None,
    });
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    own.unwrap_or_else(|| pod::grace_seconds(pod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observed::State;
    use crate::plan::tests::container;
    use crate::pod::tests::pod;

    #[test]
    fn grace() {
        let pod = pod(json!({"terminationGracePeriodSeconds": 7, "containers": [
            {"name": "c", "livenessProbe": {"terminationGracePeriodSeconds": 3}}]}));
        let container = &pod::spec(&pod).containers[0];
        assert_eq!(grace_for(&pod, Some(container), KillReason::LivenessProbe), 3);
        assert_eq!(grace_for(&pod, Some(container), KillReason::StartupProbe), 7);
        assert_eq!(grace_for(&pod, None, KillReason::Other), 7);
    }

    #[test]
    fn sidecars_end_last_to_first() {
        let pod = pod(
            json!({"initContainers": [{"name": "a", "restartPolicy": "Always"}, {"name": "b", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}]}),
        );
        let running: Vec<_> = ["a", "b", "c"].map(|name| container(&pod, name, State::Running, 0)).to_vec();
        let sidecars = running.iter().filter(|c| is_sidecar(&pod, c)).collect();
        let names: Vec<_> = in_reverse(&pod, sidecars).iter().map(|c| c.name.clone()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
