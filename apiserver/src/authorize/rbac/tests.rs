//! Reasons and rules out of a small set of objects.

use serde_json::json;

use super::*;
use crate::authorize::Resource;

fn rbac() -> Rbac {
    let rbac = Rbac::default();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
    let puts = [
        ("clusterroles", json!({"metadata": {"name": "reader"}, "rules": rules})),
        ("roles", json!({"metadata": {"name": "own", "namespace": "a"}, "rules": rules})),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": "crb"}, "roleRef": {"kind": "ClusterRole", "name": "reader"},
                "subjects": [{"kind": "Group", "name": "ops"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        ),
        (
            "rolebindings",
            json!({"metadata": {"name": "rb", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "own"},
                "subjects": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "s"}]}),
        ),
        (
            "rolebindings",
            json!({"metadata": {"name": "gone", "namespace": "b"}, "roleRef": {"kind": "Role", "name": "none"},
                "subjects": [{"kind": "User", "name": "ann"}]}),
        ),
    ];
    for (resource, object) in puts {
        rbac.apply(resource, Change::Put(Arc::new(object)));
    }
    rbac
}

fn ask(rbac: &Rbac, user: &User, namespace: &str) -> Ruling {
    let target = Target::Resource(Resource { namespace, resource: "pods", ..Resource::default() });
    rbac.authorize(&Attributes { user, verb: "list", target })
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..User::default() }
}

#[test]
fn permissions_say_where_they_come_from() {
    let rbac = rbac();
    let cases = [
        (
            user("joe", &["ops"]),
            "",
            r#"RBAC: allowed by ClusterRoleBinding "crb" of ClusterRole "reader" to Group "ops""#,
        ),
        (
            user("system:serviceaccount:n:s", &[]),
            "z",
            r#"RBAC: allowed by ClusterRoleBinding "crb" of ClusterRole "reader" to ServiceAccount "s/n""#,
        ),
        (user("ann", &[]), "a", r#"RBAC: allowed by RoleBinding "rb/a" of Role "own" to User "ann""#),
        (
            user("system:serviceaccount:a:s", &[]),
            "a",
            r#"RBAC: allowed by RoleBinding "rb/a" of Role "own" to ServiceAccount "s/a""#,
        ),
    ];
    for (user, namespace, reason) in cases {
        assert_eq!(ask(&rbac, &user, namespace), Ruling::allow(reason), "{user:?}");
    }
}

#[test]
fn what_is_not_allowed_has_no_opinion() {
    let rbac = rbac();
    assert_eq!(ask(&rbac, &user("ann", &[]), ""), Ruling::no_opinion(""));
    let missing = r#"RBAC: role.rbac.authorization.k8s.io "none" not found"#;
    assert_eq!(ask(&rbac, &user("ann", &[]), "b"), Ruling::no_opinion(missing));
}

#[test]
fn removed_bindings_are_forgotten() {
    let rbac = rbac();
    let binding = json!({"metadata": {"name": "rb", "namespace": "a"}});
    rbac.apply("rolebindings", Change::Deleted(Arc::new(binding)));
    assert!(!ask(&rbac, &user("ann", &[]), "a").is_allowed());
}
