//! Which bundles are chosen, and what of them stands in the file.

use serde_json::json;

use super::*;

/// Not a certificate: what the block holds is the API server's business.
fn anchor(contents: &str) -> String {
    certificate_pem(contents.into())
}

fn bundle(name: &str, signer: Option<&str>, labels: serde_json::Value) -> ClusterTrustBundle {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"signerName": signer, "trustBundle": anchor(name)},
    }))
    .unwrap()
}

fn names(source: serde_json::Value) -> Result<Vec<String>, String> {
    let bundles = [
        bundle("plain", None, json!({})),
        bundle("s:a", Some("s"), json!({"x": "1"})),
        bundle("s:b", Some("s"), json!({"x": "2"})),
        bundle("t:a", Some("t"), json!({"x": "1"})),
    ];
    let source = serde_json::from_value(source).unwrap();
    let chosen = choose(bundles.iter(), &source)?;
    Ok(chosen.into_iter().map(|bundle| bundle.metadata.name.clone().unwrap()).collect())
}

#[test]
fn chooses_by_name_or_by_signer() {
    for (source, expected) in [
        (json!({"name": "plain"}), vec!["plain"]),
        (json!({"name": "none", "optional": true}), vec![]),
        (json!({"signerName": "s", "labelSelector": {}}), vec!["s:a", "s:b"]),
        (json!({"signerName": "s", "labelSelector": {"matchLabels": {"x": "2"}}}), vec!["s:b"]),
        (json!({"signerName": "s", "optional": true}), vec![]),
        (json!({"signerName": "s", "labelSelector": {"matchLabels": {"x": "3"}}, "optional": true}), vec![]),
    ] {
        let mut source = source;
        source["path"] = json!("p");
        assert_eq!(names(source.clone()), Ok(expected.into_iter().map(str::to_owned).collect()), "{source}");
    }
}

#[test]
fn says_what_is_missing() {
    let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
    for (source, expected) in [
        (
            json!({"name": "none"}),
            "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"none\" not found",
        ),
        (json!({"signerName": "s"}), none),
        (json!({"signerName": "u", "labelSelector": {}}), none),
        (json!({}), "ClusterTrustBundle projection requires either name or signerName to be set"),
    ] {
        let mut source = source;
        source["path"] = json!("p");
        assert_eq!(names(source.clone()), Err(expected.into()), "{source}");
    }
    let bad = json!({"path": "p", "signerName": "s",
        "labelSelector": {"matchExpressions": [{"key": "x", "operator": "Near", "values": ["1"]}]}});
    assert!(names(bad).unwrap_err().starts_with("while parsing label selector: "));
}

#[tokio::test]
async fn anchors_once_each_without_headers_in_a_lasting_order() {
    let (_trigger, drain) = daemon::Drain::new();
    let bundles = TrustBundles::new(Informers::new(client(), daemon::Tasks::new(drain)));
    let commented = format!("# a comment\n{}between\n{}", anchor("a"), anchor("b"));
    let headed = anchor("c").replace("CERTIFICATE-----\n", "CERTIFICATE-----\nKey: value\n\n");
    let headed = headed.replacen("-----END CERTIFICATE-----\nKey: value\n\n", "-----END CERTIFICATE-----\n", 1);
    let texts = [commented.as_str(), headed.as_str(), "no block at all", &anchor("a")];
    let text = String::from_utf8(bundles.normalize(texts.into_iter())).unwrap();
    let mut found: Vec<Vec<u8>> = blocks(&text);
    found.sort();
    assert_eq!(found, [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], "{text}");
    assert_eq!(text.lines().count(), 9, "{text}");
    let turned = [headed.as_str(), commented.as_str()];
    assert_eq!(bundles.normalize(turned.into_iter()), text.into_bytes());
}

fn client() -> kube::Client {
    let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
    });
    kube::Client::new(nobody, "default")
}
