//! What becomes of a pod's time when the server does not answer.

use jiff::SignedDuration;

use super::*;

fn pod() -> Pod {
    let value = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"nodeName": "n", "containers": [],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}});
    serde_json::from_value(value).unwrap()
}

/// A controller that knows one pod on a tainted node, whose requests all get this answer.
fn controller(code: u16) -> Controller {
    let answer = move |_: http::Request<kube::client::Body>| async move {
        http::Response::builder().status(code).body(kube::client::Body::from(b"{}".to_vec()))
    };
    let (pods, pod_feed) = Informer::detached();
    let (nodes, node_feed) = Informer::detached();
    pod_feed.apply(pod());
    let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    node_feed.apply(serde_json::from_value(node).unwrap());
    Controller {
        client: Client::new(tower::service_fn(answer), "ns"),
        recorder: Recorder::detached("test").0,
        pods,
        nodes,
        tolerating: Tolerating::default(),
    }
}

#[tokio::test]
async fn a_pod_gets_its_time_once() {
    let key = Key::new("ns", "p");
    let failing = controller(500);
    let left = failing.sync(key.clone()).await.unwrap().unwrap();
    assert!(left > Duration::from_secs(290) && left <= Duration::from_secs(300), "{left:?}");
    let past = daemon::clock::now() - SignedDuration::from_secs(301);
    failing.tolerating.lock().insert("u".to_owned(), past);
    for _ in 0..3 {
        failing.sync(key.clone()).await.unwrap_err();
    }
    let serving = Controller { tolerating: failing.tolerating.clone(), ..controller(200) };
    assert_eq!(serving.sync(key).await.unwrap(), None);
    assert!(serving.tolerating.lock().is_empty(), "it is not remembered any longer");
}
