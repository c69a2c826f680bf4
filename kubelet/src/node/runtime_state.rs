//! Whether the runtime and its network are ready, asked again and again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pause;
use crate::kubelet::Kubelet;

/// While something is not ready, so that a node becomes ready soon after it is.
const POLL_UNREADY: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Problems {
    runtime: Option<String>,
    network: Option<String>,
}

pub(crate) struct RuntimeState {
    problems: Mutex<Problems>,
    changed: Notify,
}

impl RuntimeState {
    pub(crate) fn new() -> Self {
        let unknown = Some("container runtime status check may not have completed yet".to_owned());
        let problems = Problems { runtime: unknown.clone(), network: unknown };
        Self { problems: Mutex::new(problems), changed: Notify::new() }
    }

    /// Why pods cannot get a network; none when they can.
    pub(crate) fn network_problem(&self) -> Option<String> {
        self.problems.lock().network.clone()
    }

    /// Everything that keeps the node from being ready.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock();
        problems.runtime.iter().chain(&problems.network).cloned().collect()
    }

    /// Returns after the next change. One waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// True when the network became ready.
    fn set(&self, new: Problems) -> bool {
        let mut problems = self.problems.lock();
        if *problems == new {
            return false;
        }
        let recovered = problems.network.is_some() && new.network.is_none();
        *problems = new;
        drop(problems);
        self.changed.notify_one();
        recovered
    }
}

pub(super) async fn run(kubelet: Arc<Kubelet>) -> Result<(), std::convert::Infallible> {
    loop {
        let problems = look(&kubelet).await;
        let wait = if problems == Problems::default() { POLL } else { POLL_UNREADY };
        if kubelet.runtime_state.set(problems) {
            kubelet.pods.wake_all();
        }
        if !pause(&kubelet, wait).await {
            return Ok(());
        }
    }
}

async fn look(kubelet: &Kubelet) -> Problems {
    let status = match kubelet.runtime.status().await {
        Ok(status) => status,
        Err(error) => {
            return Problems {
                runtime: Some(format!("container runtime is down: {error}")),
                network: Some("container runtime is down".into()),
            };
        }
    };
    let problem = |kind: &str, title: &str| match status.conditions.iter().find(|c| c.r#type == kind) {
        Some(condition) if condition.status => None,
        Some(c) => Some(format!("{title} not ready: {kind}=false reason:{} message:{}", c.reason, c.message)),
        None => Some(format!("{title} not ready: {kind} unknown")),
    };
    Problems {
        runtime: problem("RuntimeReady", "container runtime"),
        network: problem("NetworkReady", "container runtime network"),
    }
}
