//! Wakes the pods that something happened to: the runtime's events, and a relist that finds what they missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cri::{EventKind, v1};
use futures::StreamExt as _;

use crate::kubelet::Kubelet;
use crate::node::pause;
use crate::observed::{LABEL_POD_UID, label};

/// Everything is listed this often even when no event came.
const RELIST: Duration = Duration::from_secs(10);
/// The runtime's CRI part learns of an exit by the same event, a moment later than this does.
const SETTLE: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250)];
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// State by container or sandbox id, with the pod it belongs to.
type Listed = HashMap<String, (String, i32)>;

async fn list(kubelet: &Kubelet) -> Result<Listed, cri::Error> {
    let (sandboxes, containers) = tokio::try_join!(
        kubelet.runtime.list_sandboxes(HashMap::new()),
        kubelet.runtime.list_containers(HashMap::new())
    )?;
    let mut listed = Listed::new();
    listed.extend(sandboxes.into_iter().map(|s| (s.id, (label(&s.labels, LABEL_POD_UID), s.state))));
    // Container states are told apart from sandbox states by an offset: ids never clash, states may.
    listed.extend(containers.into_iter().map(|c| (c.id, (label(&c.labels, LABEL_POD_UID), c.state + 100))));
    Ok(listed)
}

/// Uids of pods with something new, gone or changed.
fn changed(old: &Listed, new: &Listed) -> HashSet<String> {
    let differs = |a: &Listed, b: &Listed| -> HashSet<String> {
        a.iter().filter(|(id, entry)| b.get(*id) != Some(entry)).map(|(_, (uid, _))| uid.clone()).collect()
    };
    &differs(old, new) | &differs(new, old)
}

pub(crate) async fn run(kubelet: Arc<Kubelet>) -> Result<(), cri::Error> {
    let mut known = Listed::new();
    loop {
        let mut events = kubelet.runtime.events().await?;
        relist(&kubelet, &mut known).await?;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokio::time::sleep(RELIST) => {
                    relist(&kubelet, &mut known).await?;
                    continue;
                }
                () = kubelet.tasks.drain().cancelled() => return Ok(()),
            };
            let Some(event) = event else { break };
            settle(&kubelet, &mut known, &event).await?;
        }
        if !pause(&kubelet, RESUBSCRIBE).await {
            return Ok(());
        }
    }
}

async fn relist(kubelet: &Kubelet, known: &mut Listed) -> Result<(), cri::Error> {
    let listed = list(kubelet).await?;
    for uid in changed(known, &listed) {
        kubelet.pods.wake(&uid);
    }
    *known = listed;
    Ok(())
}

/// Lists until the exit shows.
async fn settle(kubelet: &Kubelet, known: &mut Listed, event: &cri::Event) -> Result<(), cri::Error> {
    let runs = |known: &Listed| {
        let state = known.get(&event.id).map(|(_, state)| *state);
        state == Some(v1::ContainerState::ContainerRunning as i32 + 100)
            || state == Some(v1::PodSandboxState::SandboxReady as i32)
    };
    relist(kubelet, known).await?;
    if event.kind != EventKind::Exited {
        return Ok(());
    }
    for wait in SETTLE {
        if !runs(known) {
            return Ok(());
        }
        tokio::time::sleep(wait).await;
        relist(kubelet, known).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed() {
        let listed = |list: &[(&str, &str, i32)]| -> Listed {
            list.iter().map(|(id, uid, state)| ((*id).to_owned(), ((*uid).to_owned(), *state))).collect()
        };
        let old = listed(&[("a", "1", 100), ("b", "2", 101), ("c", "3", 101)]);
        let new = listed(&[("a", "1", 100), ("b", "2", 102), ("d", "4", 100)]);
        let expected = ["2", "3", "4"].map(str::to_owned).into();
        assert_eq!(changed(&old, &new), expected);
    }
}
