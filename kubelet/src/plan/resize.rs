//! Which running containers have other resources than they were given.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::{Actions, Kill, KillReason};
use crate::observed::{PodObserved, State};
use crate::pod;
use crate::spec::resources::{are_equal, differ};

/// A container to be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resize {
    pub id: String,
    pub name: String,
}

/// Adds what a resize needs to the actions of a pod that otherwise stays as it is.
pub(crate) fn add(
    pod: &Pod,
    observed: &PodObserved,
    actuated: &BTreeMap<String, ResourceRequirements>,
    actions: &mut Actions,
) {
    if actions.kill_pod || actions.create_sandbox {
        return;
    }
    let sidecars = pod::init_containers(pod).iter().enumerate().filter(|(_, c)| pod::is_sidecar(c));
    let regular = pod::spec(pod).containers.iter().enumerate();
    for (is_init, (index, container)) in sidecars.map(|one| (true, one)).chain(regular.map(|one| (false, one))) {
        let Some(running) = observed.active(&container.name).filter(|c| c.state == State::Running) else { continue };
        if actions.to_kill.iter().any(|kill| kill.id == running.id) {
            continue;
        }
        let wanted = container.resources.clone().unwrap_or_default();
        let Some(now) = actuated.get(&running.id) else {
            // Nobody knows: to set it once more does no harm.
            actions.to_resize.push(Resize { id: running.id.clone(), name: container.name.clone() });
            continue;
        };
        if are_equal(now, &wanted) {
            continue;
        }
        if !needs_restart(container, now, &wanted) {
            actions.to_resize.push(Resize { id: running.id.clone(), name: container.name.clone() });
            continue;
        }
        actions.to_kill.push(Kill {
            id: running.id.clone(),
            name: container.name.clone(),
            message: format!("Container {} resize requires restart", container.name),
            reason: KillReason::Other,
        });
        if is_init { actions.init_to_start.push(index) } else { actions.to_start.push(index) }
    }
}

/// The container asks to be started anew when one of the resources that change is changed.
fn needs_restart(container: &Container, now: &ResourceRequirements, wanted: &ResourceRequirements) -> bool {
    let policies = container.resize_policy.iter().flatten();
    let mut strict = policies.filter(|policy| policy.restart_policy == "RestartContainer");
    strict.any(|policy| differ(now, wanted, &policy.resource_name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::tests::{container, sandbox};
    use crate::pod::tests::pod;

    fn planned(now: Option<Value>, policy: &str) -> Actions {
        let pod = pod(json!({"containers": [{"name": "a",
            "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]}]}));
        let running = container(&pod, "a", State::Running, 0);
        let actuated = now.map(|now| (running.id.clone(), serde_json::from_value(now).unwrap()));
        let observed = PodObserved { sandboxes: vec![sandbox(true)], containers: vec![running] };
        let mut actions = Actions::default();
        add(&pod, &observed, &actuated.into_iter().collect(), &mut actions);
        actions
    }

    #[test]
    fn what_changes_and_how() {
        let same = json!({"requests": {"cpu": "2000m"}, "limits": {"memory": "1024Mi"}});
        let cpu = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
        let memory = json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}});
        for (now, policy, resized, restarted) in [
            (Some(same), "RestartContainer", 0, 0),
            (Some(cpu.clone()), "NotRequired", 1, 0),
            (Some(cpu), "RestartContainer", 0, 1),
            (Some(memory), "RestartContainer", 1, 0),
            (None, "RestartContainer", 1, 0),
        ] {
            let actions = planned(now.clone(), policy);
            assert_eq!((actions.to_resize.len(), actions.to_start.len()), (resized, restarted), "{now:?} {policy}");
            assert_eq!(actions.to_kill.len(), restarted);
        }
    }
}
