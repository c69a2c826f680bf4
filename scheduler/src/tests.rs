//! What becomes of a pod whose binding failed.

use serde_json::{Value, json};

use super::*;
use crate::queue::Delays;

fn pod(more: &Value) -> Pod {
    let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": []}});
    for (part, fields) in more.as_object().unwrap() {
        for (name, field) in fields.as_object().unwrap() {
            value[part][name] = field.clone();
        }
    }
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn only_a_pod_that_is_there_and_has_no_node_waits_again() {
    let now = Duration::ZERO;
    for (present, expected) in [
        (None, None),
        (Some(json!({"metadata": {"uid": "another"}})), None),
        (Some(json!({"spec": {"nodeName": "a"}})), None),
        (Some(json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}})), None),
        (Some(json!({"status": {"phase": "Failed"}})), None),
        (Some(json!({"metadata": {"labels": {"is": "newer"}}})), Some("newer")),
    ] {
        let (pods, feed) = Informer::detached();
        let queue = Queue::new(Delays { initial: now, max: now });
        queue.set(Arc::new(PodInfo::new(Arc::new(pod(&json!({}))))));
        let waiting = queue.next().await;
        queue.remove(&waiting.pod.key, &waiting.pod.uid);
        present.iter().for_each(|more| feed.apply(pod(more)));
        let label = |pod: &PodInfo| pod.labels.get("is").cloned();
        let told = wait_again(&pods, &queue, &waiting).map(|pod| label(&pod).unwrap_or_default());
        assert_eq!(told.as_deref(), expected, "{present:?}");
        let next = tokio::time::timeout(Duration::from_millis(1), queue.next()).await.ok();
        assert_eq!(next.map(|next| label(&next.pod).unwrap_or_default()).as_deref(), expected, "{present:?}");
    }
}
