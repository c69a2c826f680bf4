//! Kubeconfig documents, alone and merged into others.

use pki::{Kubeconfig, UserAuth};

fn config(cluster: &str, token: &str) -> Kubeconfig {
    Kubeconfig {
        cluster: cluster.to_owned(),
        user: format!("{cluster}-admin"),
        server: "https://127.0.0.1:6443".to_owned(),
        ca_pem: "CA".to_owned(),
        auth: UserAuth::Token(token.to_owned()),
    }
}

#[test]
fn merging_replaces_own_entries_and_keeps_others() {
    let other = "# kept by nobody\nclusters:\n- name: prod\n  cluster: {server: 'https://x'}\nextensions: [1]\n";
    let once = config("ironclad", "a").merge_into(other).unwrap();
    let twice = config("ironclad", "b").merge_into(&once).unwrap();
    let value: serde_json::Value = serde_yaml_ng::from_str(&twice).unwrap();
    assert_eq!(value["clusters"].as_array().unwrap().len(), 2);
    assert_eq!(value["users"][0]["user"]["token"], "b");
    assert_eq!(value["current-context"], "ironclad");
    assert_eq!(value["extensions"][0], 1);
}

#[test]
fn removing_leaves_the_rest_or_nothing() {
    let alone = config("ironclad", "a").to_yaml();
    let removed = Kubeconfig::remove_from(&alone, "ironclad", "ironclad-admin").unwrap().unwrap();
    assert!(Kubeconfig::is_empty(&removed));
    assert_eq!(Kubeconfig::remove_from(&removed, "ironclad", "ironclad-admin").unwrap(), None);
    let both = config("other", "b").merge_into(&alone).unwrap();
    let rest = Kubeconfig::remove_from(&both, "ironclad", "ironclad-admin").unwrap().unwrap();
    assert!(!Kubeconfig::is_empty(&rest));
    assert!(rest.contains("other-admin") && !rest.contains("ironclad"));
}

#[test]
fn an_empty_file_is_an_empty_document() {
    assert!(config("ironclad", "a").merge_into("").unwrap().contains("current-context: ironclad"));
    assert!(config("ironclad", "a").merge_into("- list").is_err());
    assert!(config("ironclad", "a").merge_into("clusters: {a: b}").is_err());
}
