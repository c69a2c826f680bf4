//! A pod's row in a table, above all its status in one word.

use api::{Value, meta, time};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::core::pod_spec::containers::is_sidecar;
use crate::tree::{at, flag, has, int, list, some, text};

const NONE: &str = "<none>";

/// The cells, in the order of the columns.
pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (at(pod, "spec"), at(pod, "status"));
    let summary = Summary::of(pod);
    let sidecars = list(spec, "initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = list(spec, "containers").len() + sidecars;
    let restarts = match summary.restarted.last {
        Some(last) if summary.restarted.count != 0 => {
            format!("{} ({} ago)", summary.restarted.count, age::between(last, now))
        }
        _ => summary.restarted.count.to_string(),
    };
    let or_none = |text: &str| if text.is_empty() { NONE } else { text }.to_owned();
    vec![
        json!(meta::name(pod)),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        json!(age::of(pod, now)),
        json!(or_none(list(status, "podIPs").first().map_or("", |ip| text(ip, "ip")))),
        json!(or_none(text(spec, "nodeName"))),
        json!(or_none(text(status, "nominatedNodeName"))),
        json!(readiness_gates(spec, status)),
    ]
}

/// A finished pod's row says so, so that clients can hide it.
pub(super) fn conditions(pod: &Value) -> Vec<Value> {
    let message = match text(at(pod, "status"), "phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    let phase = text(at(pod, "status"), "phase");
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = list(spec, "readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| is_true(status, text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len())
}

fn is_true(status: &Value, kind: &str) -> bool {
    let found = list(status, "conditions").iter().find(|c| text(c, "type") == kind);
    found.is_some_and(|condition| text(condition, "status") == "True")
}

/// Restarts counted, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarted {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarted {
    fn add(&mut self, container: &Value) {
        self.count += int(container, "restartCount");
        let ended = at(at(container, "lastState"), "terminated");
        self.last = self.last.max(time::parse(text(ended, "finishedAt")));
    }
}

struct Summary {
    reason: String,
    ready: usize,
    restarted: Restarted,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let status = at(pod, "status");
        let mut reason = text(status, "phase").to_owned();
        if !text(status, "reason").is_empty() {
            reason = text(status, "reason").to_owned();
        }
        let gated = |c: &Value| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated";
        if list(status, "conditions").iter().any(gated) {
            reason = "SchedulingGated".to_owned();
        }
        let mut summary = Self { reason, ready: 0, restarted: Restarted::default() };
        let mut sidecars = Restarted::default();
        let initializing = summary.init_containers(pod, &mut sidecars);
        if !initializing || is_true(status, "Initialized") {
            summary.restarted = sidecars;
            summary.containers(status);
        }
        summary.deletion(pod);
        summary
    }

    /// Walks the init containers up to the first that holds the pod back. True when one does.
    fn init_containers(&mut self, pod: &Value, sidecars: &mut Restarted) -> bool {
        let specs = list(at(pod, "spec"), "initContainers");
        let statuses = list(at(pod, "status"), "initContainerStatuses");
        for (i, container) in statuses.iter().enumerate() {
            self.restarted.add(container);
            let name = text(container, "name");
            let sidecar = specs.iter().rfind(|c| text(c, "name") == name).is_some_and(is_sidecar);
            if sidecar {
                sidecars.add(container);
            }
            let state = at(container, "state");
            let ended = some(state, "terminated");
            if ended.is_some_and(|ended| int(ended, "exitCode") == 0) {
                continue;
            }
            if sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            let waiting = text(at(state, "waiting"), "reason");
            self.reason = match ended {
                Some(ended) => format!("Init:{}", ending(ended)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, status: &Value) {
        let (mut running, mut failure) = (false, None);
        for container in list(status, "containerStatuses").iter().rev() {
            self.restarted.add(container);
            let state = at(container, "state");
            let waiting = text(at(state, "waiting"), "reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = some(state, "terminated") {
                self.reason = ending(ended);
                if int(ended, "exitCode") != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if flag(container, "ready") && has(state, "running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason != "Completed" {
            return;
        }
        if running && is_true(status, "Ready") {
            self.reason = "Running".to_owned();
        } else if let Some(failure) = failure {
            self.reason = failure;
        } else if running {
            self.reason = "NotReady".to_owned();
        }
    }

    fn deletion(&mut self, pod: &Value) {
        let status = at(pod, "status");
        let terminal = matches!(text(status, "phase"), "Failed" | "Succeeded");
        if !meta::is_terminating(pod) {
            return;
        }
        if text(status, "reason") == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !terminal {
            self.reason = "Terminating".to_owned();
        }
    }
}

/// Why a container ended: its reason, its signal, or its exit code.
fn ending(ended: &Value) -> String {
    match (text(ended, "reason"), int(ended, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(ended, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
