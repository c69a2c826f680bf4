//! Order, back-off and what wakes a pod.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
    let object: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [], "priority": priority},
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(object)))
}

fn queue() -> Queue {
    Queue::new(Delays { initial: Duration::from_secs(1), max: Duration::from_secs(10) })
}

async fn next(queue: &Queue) -> Option<String> {
    let next = tokio::time::timeout(Duration::from_millis(1), queue.next()).await.ok()?;
    Some(next.pod.key.name.clone())
}

#[tokio::test(start_paused = true)]
async fn important_pods_come_first_then_the_first_come() {
    let queue = queue();
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0)] {
        queue.set(pod(name, priority));
    }
    queue.remove(&Key::new("default", "c"), "another");
    queue.remove(&Key::new("default", "c"), "c");
    queue.set(pod("d", 0));
    let order = [next(&queue).await, next(&queue).await, next(&queue).await, next(&queue).await];
    assert_eq!(order, [Some("b".to_owned()), Some("a".to_owned()), Some("d".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_pod_waits_for_what_can_help() {
    let queue = queue();
    queue.set(pod("a", 0));
    for _ in 0..3 {
        let waiting = queue.next().await;
        queue.unschedulable(&waiting, Events::of(&[ClusterEvent::NodeAdd]));
        queue.happened(ClusterEvent::NodeLabel);
        assert_eq!(next(&queue).await, None, "another event does not help");
        queue.happened(ClusterEvent::NodeAdd);
    }
    assert_eq!(next(&queue).await.as_deref(), Some("a"), "with nobody before it, it need not back off");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_backs_off_lets_others_go_first() {
    let queue = queue();
    queue.set(pod("a", 9));
    let waiting = queue.next().await;
    queue.unschedulable(&waiting, Events::of(&[ClusterEvent::NodeAdd]));
    queue.happened(ClusterEvent::NodeAdd);
    queue.set(pod("b", 0));
    let order = [next(&queue).await, next(&queue).await, next(&queue).await];
    assert_eq!(order, [Some("b".to_owned()), Some("a".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_decision_backs_off_to_the_end() {
    let queue = queue();
    queue.set(pod("a", 0));
    for expected_seconds in [1, 2, 4, 8, 10, 10] {
        let waiting = queue.next().await;
        queue.failed(&waiting);
        assert_eq!(next(&queue).await, None, "idleness does not end it");
        let before = daemon::clock::monotonic();
        tokio::time::timeout(Duration::from_secs(60), queue.changed_to_active()).await.unwrap();
        assert_eq!(before.elapsed_paused().as_secs(), expected_seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_during_a_decision_is_not_missed() {
    let queue = queue();
    queue.set(pod("a", 0));
    let waiting = queue.next().await;
    queue.happened(ClusterEvent::AssignedPodDelete);
    queue.unschedulable(&waiting, Events::of(&[ClusterEvent::AssignedPodDelete]));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(next(&queue).await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn the_next_decision_is_about_the_pod_as_it_is() {
    let queue = queue();
    queue.set(pod("a", 0));
    let waiting = queue.next().await;
    queue.unschedulable(&waiting, Events::default());
    let noted = Arc::new(PodInfo { nominated: "n".to_owned(), ..(*pod("a", 0)).clone() });
    queue.note(noted);
    assert_eq!(next(&queue).await, None, "it is no reason for a turn");
    queue.try_again(&waiting.pod);
    assert_eq!(next(&queue).await, None, "its delay lasts, even when nothing else is waiting");
    assert_eq!(queue.next().await.pod.nominated, "n");
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_same_name_keeps_its_turn() {
    let queue = queue();
    queue.set(pod("a", 0));
    let old = queue.next().await;
    let new = Arc::new(PodInfo { uid: "new".to_owned(), ..(*pod("a", 0)).clone() });
    queue.set(new);
    queue.remove(&old.pod.key, &old.pod.uid);
    assert_eq!(queue.next().await.pod.uid, "new");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_pod_is_tried_after_five_minutes() {
    let queue = queue();
    queue.set(pod("a", 0));
    let waiting = queue.next().await;
    queue.unschedulable(&waiting, Events::default());
    tokio::time::sleep(MAX_WAIT).await;
    assert_eq!(next(&queue).await.as_deref(), Some("a"));
}

/// Helpers for the back-off's length under a paused clock.
impl Queue {
    /// Waits until a pod has its turn, and leaves it there.
    async fn changed_to_active(&self) {
        loop {
            let wake = {
                let mut state = self.state.lock();
                state.wake(daemon::clock::monotonic());
                if !state.active.is_empty() {
                    return;
                }
                state.next_wake().expect("a pod backs off")
            };
            tokio::time::sleep_until(wake.into()).await;
        }
    }
}

trait Elapsed {
    fn elapsed_paused(&self) -> Duration;
}

impl Elapsed for Instant {
    fn elapsed_paused(&self) -> Duration {
        daemon::clock::monotonic().duration_since(*self) + Duration::from_millis(2)
    }
}
