//! Situations of a pod and what its status says.

use serde_json::json;

use super::conditions::ALWAYS as OWNED_CONDITIONS;
use super::*;
use crate::observed::State;
use crate::plan::tests::{container, sandbox};
use crate::pod::tests::pod;

struct NoProbes;

impl Readiness for NoProbes {
    fn startup(&self, _: &str, _: &str) -> Option<Option<ProbeResult>> {
        None
    }
    fn readiness(&self, _: &str, _: &str) -> Option<Option<ProbeResult>> {
        None
    }
}

struct NotReady;

impl Readiness for NotReady {
    fn startup(&self, _: &str, _: &str) -> Option<Option<ProbeResult>> {
        None
    }
    fn readiness(&self, _: &str, _: &str) -> Option<Option<ProbeResult>> {
        Some(None)
    }
}

fn status_with(
    pod: &Pod,
    states: &[(&str, State, i32)],
    waiting: &[(&str, &str)],
    probes: &dyn Readiness,
) -> PodStatus {
    let containers = states.iter().map(|(name, state, code)| container(pod, name, *state, *code)).collect();
    let observed = PodObserved { sandboxes: vec![sandbox(true)], containers };
    let waiting = waiting
        .iter()
        .map(|(name, reason)| ((*name).into(), WaitingReason { reason: (*reason).into(), message: "m".into() }))
        .collect();
    generate(&Inputs {
        pod,
        old: &PodStatus::default(),
        observed: &observed,
        waiting: &waiting,
        readiness: probes,
        verdict: None,
        actuated: None,
        resize: &crate::worker::Progress::default(),
        recursive_read_only: true,
        is_terminal: false,
        host_ips: &["192.0.2.1".into()],
        now: Timestamp::from_second(100).unwrap(),
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap()
}

#[test]
fn phases() {
    use State::{Exited, Running};
    type Row = (&'static str, Vec<(&'static str, State, i32)>, Vec<(&'static str, &'static str)>, &'static str);
    let rows: [Row; 9] = [
        ("Always", vec![], vec![], "Pending"),
        ("Always", vec![("a", Running, 0)], vec![], "Pending"),
        ("Always", vec![("a", Running, 0), ("b", Running, 0)], vec![], "Running"),
        ("Always", vec![("a", Exited, 1), ("b", Running, 0)], vec![("a", "CrashLoopBackOff")], "Running"),
        ("Always", vec![("a", Exited, 1), ("b", Exited, 0)], vec![], "Running"),
        ("Never", vec![("a", Exited, 1), ("b", Running, 0)], vec![], "Running"),
        ("Never", vec![("a", Exited, 1), ("b", Exited, 0)], vec![], "Failed"),
        ("OnFailure", vec![("a", Exited, 0), ("b", Exited, 0)], vec![], "Succeeded"),
        ("OnFailure", vec![("a", Exited, 1), ("b", Exited, 0)], vec![], "Running"),
    ];
    for (policy, states, waiting, phase) in rows {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
        let status = status_with(&pod, &states, &waiting, &NoProbes);
        assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {states:?}");
    }
}

#[test]
fn a_running_pod_is_ready() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let status = status_with(&pod, &[("a", State::Running, 0)], &[], &NoProbes);
    for kind in OWNED_CONDITIONS {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
    }
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.5"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("containerd://id-a"));
    assert!(container.ready && container.started == Some(true));
}

#[test]
fn an_unready_container_is_named() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let status = status_with(&pod, &[("a", State::Running, 0)], &[], &NotReady);
    for kind in ["Ready", "ContainersReady"] {
        let condition = condition(&status, kind);
        assert_eq!(condition.reason.as_deref(), Some("ContainersNotReady"));
        assert_eq!(condition.message.as_deref(), Some("containers with unready status: [a]"));
    }
}

#[test]
fn a_crash_loop_shows_the_last_end() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let status = status_with(&pod, &[("a", State::Exited, 3)], &[("a", "CrashLoopBackOff")], &NoProbes);
    let one = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = one.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(one.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn initialization_is_reported() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}));
    let status = status_with(&pod, &[("i", State::Running, 0)], &[], &NoProbes);
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i j]"));
    let waiting = status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn readiness_gates_hold_back() {
    let pod = pod(json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]}));
    let status = status_with(&pod, &[("a", State::Running, 0)], &[], &NoProbes);
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    let expected = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
    assert_eq!(ready.message.as_deref(), Some(expected));
    assert_eq!(condition(&status, "ContainersReady").status, "True");
}

#[test]
fn a_terminal_phase_is_never_left() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    pod.status =
        Some(PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..PodStatus::default() });
    let status = status_with(&pod, &[("a", State::Running, 0)], &[], &NoProbes);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn completion() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let status = status_with(&pod, &[("a", State::Exited, 0)], &[], &NoProbes);
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(condition(&status, "Initialized").reason.as_deref(), Some("PodCompleted"));
    let terminated = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(terminated.reason.as_deref(), Some("Completed"));
    assert_eq!(terminated.finished_at, Some(Time(Timestamp::from_second(4).unwrap())));
}

#[test]
fn last_words_outlive_the_file_that_they_were_read_from() {
    let pod = pod(json!({"containers": [{"name": "c"}], "restartPolicy": "Never"}));
    let generated = |old: &PodStatus, id: &str, message: &str| {
        let mut seen = container(&pod, "c", State::Exited, 1);
        (seen.id, seen.message) = (id.into(), message.into());
        generate(&Inputs {
            pod: &pod,
            old,
            observed: &PodObserved { sandboxes: vec![sandbox(true)], containers: vec![seen] },
            waiting: &std::collections::HashMap::new(),
            readiness: &NoProbes,
            verdict: None,
            actuated: None,
            resize: &crate::worker::Progress::default(),
            recursive_read_only: true,
            is_terminal: true,
            host_ips: &[],
            now: Timestamp::from_second(100).unwrap(),
        })
    };
    let message = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[0].state.clone();
        state.unwrap().terminated.unwrap().message
    };
    let first = generated(&PodStatus::default(), "1", "why");
    assert_eq!(message(&generated(&first, "1", "")).as_deref(), Some("why"));
    assert_eq!(message(&generated(&first, "1", "new")).as_deref(), Some("new"));
    assert_eq!(message(&generated(&first, "2", "")), None, "another container's words are not its own");
}
