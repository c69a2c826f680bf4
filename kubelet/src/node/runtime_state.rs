//! Whether the runtime and its network are ready, asked again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::v1::{RuntimeFeatures, RuntimeHandler, StatusResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pause;
use crate::kubelet::Kubelet;

/// While something is not ready, so that a node becomes ready soon after it is.
const POLL_UNREADY: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_secs(5);
/// So long a runtime may give no answer, as while it is restarted, before the node is said to be unready: its pods would
/// lose their traffic, though they run. As upstream.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Problems {
    runtime: Option<String>,
    network: Option<String>,
}

/// What the runtime can do, as it tells; nothing when it does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Abilities {
    pub handlers: Vec<RuntimeHandler>,
    pub features: Option<RuntimeFeatures>,
}

impl Abilities {
    fn mounts_recursively_read_only(&self, handler: &str) -> bool {
        let of = self.handlers.iter().find(|known| known.name == handler);
        of.and_then(|known| known.features.as_ref()).is_some_and(|features| features.recursive_read_only_mounts)
    }
}

pub(crate) struct RuntimeState {
    problems: Mutex<Problems>,
    abilities: Mutex<Abilities>,
    changed: Notify,
}

impl RuntimeState {
    pub(crate) fn new() -> Self {
        let unknown = Some("container runtime status check may not have completed yet".to_owned());
        let problems = Problems { runtime: unknown.clone(), network: unknown };
        Self { problems: Mutex::new(problems), abilities: Mutex::default(), changed: Notify::new() }
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities.lock().clone()
    }

    /// Whether a pod of this handler can have mounts that are read-only all the way down.
    pub(crate) fn mounts_recursively_read_only(&self, handler: &str) -> bool {
        self.abilities.lock().mounts_recursively_read_only(handler)
    }

    /// A runtime may be exchanged while this program runs.
    fn learn(&self, status: &StatusResponse) {
        let told = Abilities { handlers: status.runtime_handlers.clone(), features: status.features };
        let is_news = std::mem::replace(&mut *self.abilities.lock(), told.clone()) != told;
        if is_news {
            self.changed.notify_one();
        }
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
    let mut last_answer = None;
    loop {
        let looked = look(&kubelet).await;
        let wait = if looked.as_ref() == Some(&Problems::default()) { POLL } else { POLL_UNREADY };
        let known = kubelet.runtime_state.problems.lock().clone();
        if kubelet.runtime_state.set(judge(looked, known, &mut last_answer, daemon::clock::monotonic())) {
            kubelet.pods.wake_all();
        }
        if !pause(&kubelet, wait).await {
            return Ok(());
        }
    }
}

/// What there is to tell after a look: what the runtime says, or, when it says nothing, what it said last.
fn judge(looked: Option<Problems>, known: Problems, last_answer: &mut Option<Instant>, now: Instant) -> Problems {
    match (looked, *last_answer) {
        (Some(problems), _) => {
            *last_answer = Some(now);
            problems
        }
        (None, Some(last)) if now.saturating_duration_since(last) >= SILENCE => {
            Problems { runtime: Some("container runtime is down".into()), ..known }
        }
        (None, _) => known,
    }
}

/// None when there is no answer.
async fn look(kubelet: &Kubelet) -> Option<Problems> {
    let status = match kubelet.runtime.status().await {
        Ok(answer) => {
            kubelet.runtime_state.learn(&answer);
            answer.status.unwrap_or_default()
        }
        Err(error) => {
            tracing::debug!(%error, "the container runtime does not tell its state");
            return None;
        }
    };
    let problem = |kind: &str, title: &str| match status.conditions.iter().find(|c| c.r#type == kind) {
        Some(condition) if condition.status => None,
        Some(c) => Some(format!("{title} not ready: {kind}=false reason:{} message:{}", c.reason, c.message)),
        None => Some(format!("{title} not ready: {kind} unknown")),
    };
    Some(Problems {
        runtime: problem("RuntimeReady", "container runtime"),
        network: problem("NetworkReady", "container runtime network"),
    })
}

#[cfg(test)]
mod tests {
    use cri::v1::RuntimeHandlerFeatures;

    use super::*;

    #[test]
    fn a_runtime_may_be_restarted() {
        let start = daemon::clock::monotonic();
        let unknown = Problems { runtime: Some("unknown".into()), network: Some("unknown".into()) };
        let down = Problems { runtime: Some("container runtime is down".into()), network: None };
        let (mut known, mut last_answer) = (unknown.clone(), None);
        for (seconds, looked, expected) in [
            (0, None, &unknown),
            (60, None, &unknown),
            (61, Some(Problems::default()), &Problems::default()),
            (62, None, &Problems::default()),
            (90, None, &Problems::default()),
            (91, None, &down),
            (200, None, &down),
            (201, Some(Problems::default()), &Problems::default()),
        ] {
            known = judge(looked, known, &mut last_answer, start + Duration::from_secs(seconds));
            assert_eq!(&known, expected, "after {seconds} s");
        }
    }

    #[test]
    fn only_what_the_pods_handler_can_do() {
        let handler = |name: &str, able: Option<bool>| RuntimeHandler {
            name: name.into(),
            features: able
                .map(|able| RuntimeHandlerFeatures { recursive_read_only_mounts: able, ..Default::default() }),
        };
        let handlers = vec![handler("", Some(true)), handler("old", Some(false)), handler("silent", None)];
        let abilities = Abilities { handlers, features: None };
        for (name, able) in [("", true), ("old", false), ("silent", false), ("unknown", false)] {
            assert_eq!(abilities.mounts_recursively_read_only(name), able, "{name:?}");
        }
        assert!(!Abilities::default().mounts_recursively_read_only(""), "a runtime that does not tell");
    }
}
