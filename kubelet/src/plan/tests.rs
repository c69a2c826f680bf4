//! One row a situation.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::observed::Sandbox;
use crate::pod::tests::pod;

#[derive(Default)]
pub(crate) struct Probes {
    pub startup: HashMap<String, ProbeResult>,
    pub liveness: HashMap<String, ProbeResult>,
}

impl ProbeView for Probes {
    fn startup(&self, id: &str) -> Option<ProbeResult> {
        self.startup.get(id).copied()
    }
    fn liveness(&self, id: &str) -> Option<ProbeResult> {
        self.liveness.get(id).copied()
    }
}

pub(crate) fn sandbox(ready: bool) -> Sandbox {
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready,
        created_at: 1,
        host_network: false,
        runtime_handler: String::new(),
        ip: Some("10.244.0.5".into()),
        additional_ips: vec![],
    }
}

/// A container of `pod` with the hash it should have.
pub(crate) fn container(pod: &Pod, name: &str, state: State, exit_code: i32) -> Observed {
    let hash = pod::find_container(pod, name).map_or(0, |c| pod::container_hash(&c));
    Observed {
        id: format!("id-{name}"),
        name: name.into(),
        sandbox_id: "s".into(),
        state,
        created_at: 2_000_000_000,
        started_at: 3_000_000_000,
        finished_at: if state == State::Exited { 4_000_000_000 } else { 0 },
        exit_code,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        image: "i:1".into(),
        image_ref: "sha256:1".into(),
        hash,
        restart_count: 0,
        log_path: String::new(),
    }
}

fn plan(pod: &Pod, ready: bool, states: &[(&str, State, i32)]) -> Actions {
    let containers = states.iter().map(|(name, state, code)| container(pod, name, *state, *code)).collect();
    let observed = PodObserved { sandboxes: vec![sandbox(ready)], containers };
    compute_actions(pod, &observed, &Probes::default())
}

fn two(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}))
}

#[test]
fn nothing_there_yet() {
    let actions = compute_actions(&two("Always"), &PodObserved::default(), &Probes::default());
    assert!(actions.kill_pod && actions.create_sandbox);
    assert_eq!((actions.attempt, actions.to_start), (0, vec![0, 1]));
}

#[test]
fn restart_policies() {
    use State::{Exited, Running};
    type Row = (&'static str, [(&'static str, State, i32); 2], Vec<usize>, bool);
    let rows: [Row; 6] = [
        ("Always", [("a", Running, 0), ("b", Running, 0)], vec![], false),
        ("Always", [("a", Running, 0), ("b", Exited, 0)], vec![1], false),
        ("OnFailure", [("a", Exited, 0), ("b", Exited, 1)], vec![1], false),
        ("OnFailure", [("a", Exited, 0), ("b", Exited, 0)], vec![], true),
        ("Never", [("a", Running, 0), ("b", Exited, 1)], vec![], false),
        ("Never", [("a", Exited, 0), ("b", Exited, 1)], vec![], true),
    ];
    for (policy, states, to_start, kill_pod) in rows {
        let actions = plan(&two(policy), true, &states);
        assert_eq!((actions.to_start, actions.kill_pod), (to_start, kill_pod), "{policy} {states:?}");
    }
}

#[test]
fn a_lost_sandbox_is_replaced_unless_the_pod_is_done() {
    let exited = [("a", State::Exited, 137), ("b", State::Exited, 0)];
    let actions = plan(&two("Always"), false, &exited);
    assert_eq!((actions.create_sandbox, actions.attempt, actions.to_start), (true, 1, vec![0, 1]));
    let actions = plan(&two("OnFailure"), false, &exited);
    assert_eq!((actions.create_sandbox, actions.to_start), (true, vec![0]));
    let actions = plan(&two("Never"), false, &exited);
    assert!(actions.kill_pod && !actions.create_sandbox);
}

#[test]
fn a_changed_definition_restarts_even_with_never() {
    let pod = two("Never");
    let mut observed = PodObserved { sandboxes: vec![sandbox(true)], containers: vec![] };
    observed.containers = vec![container(&pod, "a", State::Running, 0), container(&pod, "b", State::Running, 0)];
    observed.containers[0].hash += 1;
    let actions = compute_actions(&pod, &observed, &Probes::default());
    assert_eq!(actions.to_start, [0]);
    assert_eq!(actions.to_kill[0].message, "Container a definition changed, will be restarted");
}

#[test]
fn a_failing_liveness_probe_kills() {
    for (policy, message, to_start) in [
        ("Always", "Container a failed liveness probe, will be restarted", vec![0]),
        ("Never", "Container a failed liveness probe", vec![]),
    ] {
        let pod = two(policy);
        let containers = vec![container(&pod, "a", State::Running, 0), container(&pod, "b", State::Running, 0)];
        let observed = PodObserved { sandboxes: vec![sandbox(true)], containers };
        let mut probes = Probes::default();
        probes.liveness.insert("id-a".into(), ProbeResult::Failure);
        let actions = compute_actions(&pod, &observed, &probes);
        assert_eq!(actions.to_kill[0].message, message);
        assert_eq!(actions.to_start, to_start);
        assert!(!actions.kill_pod);
    }
}

#[test]
fn init_containers_run_in_order() {
    use State::{Exited, Running};
    let pod = |policy: &str| {
        pod(json!({"restartPolicy": policy,
            "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}))
    };
    type Row = (&'static str, Vec<(&'static str, State, i32)>, Vec<usize>, Vec<usize>, bool);
    let rows: [Row; 7] = [
        ("Always", vec![], vec![0], vec![], false),
        ("Always", vec![("i", Running, 0)], vec![], vec![], false),
        ("Always", vec![("i", Exited, 0)], vec![1], vec![], false),
        ("Always", vec![("i", Exited, 1)], vec![0], vec![], false),
        ("Never", vec![("i", Exited, 1)], vec![], vec![], true),
        ("Always", vec![("i", Exited, 0), ("j", Exited, 0)], vec![], vec![0], false),
        ("Always", vec![("j", Exited, 0), ("a", Exited, 1)], vec![], vec![0], false),
    ];
    for (policy, states, init, regular, kill) in rows {
        let actions = plan(&pod(policy), true, &states);
        assert_eq!(
            (actions.init_to_start, actions.to_start, actions.kill_pod),
            (init, regular, kill),
            "{policy} {states:?}"
        );
    }
}

#[test]
fn sidecars_keep_running_beside_the_rest() {
    use State::{Exited, Running};
    let pod = pod(json!({
        "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "i"}], "containers": [{"name": "a"}]}));
    type Row = (Vec<(&'static str, State, i32)>, Vec<usize>, Vec<usize>);
    let rows: [Row; 4] = [
        (vec![("side", Running, 0)], vec![1], vec![]),
        (vec![("side", Running, 0), ("i", Exited, 0)], vec![], vec![0]),
        (vec![("side", Exited, 1), ("i", Exited, 0), ("a", Running, 0)], vec![0], vec![]),
        (vec![("side", Exited, 1), ("i", Running, 0)], vec![0], vec![]),
    ];
    for (states, init, regular) in rows {
        let actions = plan(&pod, true, &states);
        assert_eq!((actions.init_to_start, actions.to_start), (init, regular), "{states:?}");
    }
}

#[test]
fn a_sidecar_does_not_keep_a_finished_pod() {
    let pod = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]}));
    let actions = plan(&pod, true, &[("side", State::Running, 0), ("a", State::Exited, 0)]);
    assert!(actions.kill_pod && actions.init_to_start.is_empty());
}

#[test]
fn a_waiting_startup_probe_holds_back_the_next() {
    let pod = pod(json!({
        "initContainers": [{"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}],
        "containers": [{"name": "a"}]}));
    let observed =
        PodObserved { sandboxes: vec![sandbox(true)], containers: vec![container(&pod, "side", State::Running, 0)] };
    let mut probes = Probes::default();
    assert!(compute_actions(&pod, &observed, &probes).is_empty());
    probes.startup.insert("id-side".into(), ProbeResult::Success);
    assert_eq!(compute_actions(&pod, &observed, &probes).to_start, [0]);
    probes.startup.insert("id-side".into(), ProbeResult::Failure);
    let actions = compute_actions(&pod, &observed, &probes);
    assert_eq!((actions.init_to_start, actions.to_kill.len()), (vec![0], 1));
}

#[test]
fn a_deleted_pod_restarts_nothing() {
    let mut deleted = two("Always");
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let actions = plan(&deleted, true, &[("a", State::Running, 0), ("b", State::Exited, 1)]);
    assert!(actions.is_empty(), "{actions:?}");
}
