//! What is asked of a kubelet, and who is asked.

use serde_json::json;

use super::*;
use crate::request::{Target, User, Warnings};

fn context(query: &str) -> Context {
    Context {
        user: Arc::new(User::default()),
        target: Arc::new(Target::Path { verb: String::new(), path: String::new() }),
        query: Arc::new(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()),
        now: daemon::clock::now(),
        user_agent: "".into(),
        audit_id: "".into(),
        warnings: Warnings::default(),
    }
}

#[test]
fn options_get_the_kubelets_names() {
    let exec = context("command=sh&command=-c&stdin=true&stdout=true&stderr=false&container=c&tty=1");
    assert_eq!(pod::stream_query(&exec, "exec"), "input=1&output=1&tty=1&command=sh&command=-c");
    assert_eq!(pod::stream_query(&exec, "attach"), "input=1&output=1&tty=1");
    assert_eq!(pod::stream_query(&context("ports=80&ports=81"), "portforward"), "port=80%2C81");
}

#[test]
fn containers_are_found_or_named() {
    let one =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
    assert_eq!(pod::container(&one, "").unwrap(), "a");
    assert_eq!(pod::container(&one, "i").unwrap(), "i");
    assert_eq!(pod::container(&one, "x").unwrap_err().message, "container x is not valid for pod p");
    let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let message = "a container name must be specified for pod p, choose one of: [a b]";
    assert_eq!(pod::container(&two, "").unwrap_err().message, message);
}

#[test]
fn proxied_names_split() {
    let named = |scheme, name, port| target::Named { scheme, name, port };
    assert_eq!(target::split("a", "pod").unwrap(), named("", "a", ""));
    assert_eq!(target::split("a:80", "pod").unwrap(), named("", "a", "80"));
    assert_eq!(target::split("https:a:", "pod").unwrap(), named("https", "a", ""));
    assert_eq!(target::split("ftp:a:1", "pod").unwrap_err().message, "invalid pod request \"ftp:a:1\"");
    assert!(target::split(":80", "pod").is_err());
}

#[test]
fn ready_pods_with_the_port_are_chosen_from() {
    let pod = |name: &str| json!({"kind": "Pod", "name": name});
    let slice = json!({
        "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "targetRef": pod("p")},
            {"addresses": ["10.0.0.2"], "targetRef": pod("q"), "conditions": {"ready": false}},
            {"addresses": ["169.254.169.254"]},
        ],
    });
    let endpoint = |port| proxy::Endpoint { address: "10.0.0.1".to_owned(), port, pod: "p".to_owned() };
    assert_eq!(proxy::endpoints(&slice, "b"), [endpoint(2)]);
    assert_eq!(proxy::endpoints(&slice, ""), [endpoint(1)]);
    assert!(proxy::endpoints(&slice, "c").is_empty());
}
