//! A pod opens what it refers to, for its own node and while it exists.

use serde_json::json;

use super::*;

fn node(name: &str) -> User {
    User { name: format!("system:node:{name}"), groups: vec!["system:nodes".to_owned()], ..User::default() }
}

fn ask(authorizer: &Node, user: &User, verb: &str, resource: Resource<'_>) -> Ruling {
    authorizer.authorize(&Attributes { user, verb, target: Target::Resource(resource) })
}

fn secret(name: &str) -> Resource<'_> {
    Resource { namespace: "n", resource: "secrets", name, ..Resource::default() }
}

#[test]
fn pods_open_their_references() {
    let authorizer = Node::new(Vec::new());
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"nodeName": "a", "volumes": [{"name": "v", "secret": {"secretName": "s"}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "c"}}]},
    });
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "n", "name": "c"},
        "csi": {"nodeStageSecretRef": {"namespace": "n", "name": "stage"}}}});
    authorizer.graph.write().put("pods", &pod);
    authorizer.graph.write().put("persistentvolumes", &volume);
    assert!(ask(&authorizer, &node("a"), "get", secret("s")).is_allowed());
    assert!(ask(&authorizer, &node("a"), "get", secret("stage")).is_allowed());
    let denied = ask(&authorizer, &node("b"), "get", secret("s"));
    assert_eq!(denied.reason, "no relationship found between node 'b' and this object");
    assert_eq!(ask(&authorizer, &node("a"), "list", secret("")).reason, "No Object name found");
    authorizer.graph.write().remove("pods", &pod);
    assert!(!ask(&authorizer, &node("a"), "get", secret("s")).is_allowed());
    assert!(!ask(&authorizer, &node("a"), "get", secret("stage")).is_allowed());
    assert!(authorizer.graph.read().leads_to("a", Kind::Pod, "n", "p").eq(&false));
}

#[test]
fn lists_of_pods_need_the_nodes_own_selector() {
    let authorizer = Node::new(Vec::new());
    let pods = |fields| Resource { resource: "pods", fields, ..Resource::default() };
    assert!(ask(&authorizer, &node("a"), "watch", pods("spec.nodeName=a")).is_allowed());
    assert!(!ask(&authorizer, &node("a"), "watch", pods("spec.nodeName=b")).is_allowed());
    assert!(!ask(&authorizer, &node("a"), "list", pods("")).is_allowed());
}

#[test]
fn others_are_not_nodes() {
    let authorizer = Node::new(Rule::full_authority().to_vec());
    let stranger = User { name: "system:node:a".to_owned(), ..User::default() };
    assert!(!ask(&authorizer, &stranger, "get", secret("s")).is_allowed());
    assert!(ask(&authorizer, &node("a"), "get", Resource { resource: "services", ..Resource::default() }).is_allowed());
}

#[test]
fn a_node_sees_only_its_own_requests_for_certificates() {
    let authorizer = Node::new(Rule::full_authority().to_vec());
    let request = json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {"nodeName": "a"}});
    authorizer.graph.write().put("podcertificaterequests", &request);
    let asked = |name, fields, subresource| Resource {
        group: "certificates.k8s.io",
        namespace: "n",
        resource: "podcertificaterequests",
        name,
        fields,
        subresource,
        ..Resource::default()
    };
    for (who, verb, asked, may) in [
        ("a", "get", asked("r", "", ""), true),
        ("b", "get", asked("r", "", ""), false),
        ("a", "get", asked("other", "", ""), false),
        ("a", "create", asked("", "", ""), true),
        ("a", "watch", asked("", "spec.nodeName=a", ""), true),
        ("a", "list", asked("", "spec.nodeName=b", ""), false),
        ("a", "list", asked("", "", ""), false),
        ("a", "update", asked("r", "", ""), false),
        ("a", "delete", asked("r", "", ""), false),
        ("a", "update", asked("r", "", "status"), false),
    ] {
        let ruling = ask(&authorizer, &node(who), verb, asked);
        assert_eq!(ruling.is_allowed(), may, "{who} {verb}: {}", ruling.reason);
    }
    authorizer.graph.write().remove("podcertificaterequests", &request);
    assert!(!ask(&authorizer, &node("a"), "get", asked("r", "", "")).is_allowed());
}
