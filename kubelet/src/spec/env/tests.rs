//! Sources of variables and their order.

use serde_json::json;

use super::*;
use crate::pod::tests::pod;

fn env(container: serde_json::Value, services: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
    let pod = pod(json!({"containers": [container]}));
    let mut referred = Referred::default();
    referred.config_maps.insert("cm".into(), [("k".to_owned(), "v".to_owned())].into());
    referred.secrets.insert("s".into(), [("k".to_owned(), ByteString(b"hidden".to_vec()))].into());
    let services = services.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    build(&Inputs {
        pod: &pod,
        container: &pod::spec(&pod).containers[0],
        referred: &referred,
        services: &services,
        addresses: &Addresses::default(),
        node: Allocatable { milli_cpu: 1000, memory_bytes: 1, ephemeral_bytes: 1 },
    })
}

#[test]
fn own_variables_win() {
    let env = env(
        json!({"name": "c",
            "envFrom": [{"configMapRef": {"name": "cm"}}, {"prefix": "P_", "secretRef": {"name": "s"}}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(SVC)-$(k)"}, {"name": "SVC2", "value": "own"},
                {"name": "EMPTY"}]}),
        &[("SVC", "10.0.0.1"), ("SVC2", "x")],
    )
    .unwrap();
    let expected = [
        ("A", "1"),
        ("B", "1-10.0.0.1-v"),
        ("EMPTY", ""),
        ("P_k", "hidden"),
        ("SVC", "10.0.0.1"),
        ("SVC2", "own"),
        ("k", "v"),
    ];
    assert_eq!(env, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn what_is_missing() {
    let from = |source: serde_json::Value| json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]});
    for (container, expected) in [
        (from(json!({"configMapKeyRef": {"name": "no", "key": "k"}})), Err("configmap \"no\" not found")),
        (from(json!({"configMapKeyRef": {"name": "cm", "key": "no"}})), Err("couldn't find key no in ConfigMap ns/cm")),
        (from(json!({"secretKeyRef": {"name": "s", "key": "no"}})), Err("couldn't find key no in Secret ns/s")),
        (from(json!({"secretKeyRef": {"name": "no", "key": "k", "optional": true}})), Ok(0)),
        (json!({"name": "c", "envFrom": [{"secretRef": {"name": "no"}}]}), Err("secret \"no\" not found")),
        (json!({"name": "c", "envFrom": [{"secretRef": {"name": "no", "optional": true}}]}), Ok(0)),
    ] {
        let env = env(container.clone(), &[]).map(|env| env.len());
        assert_eq!(env, expected.map_err(str::to_owned), "{container}");
    }
}

#[test]
fn service_links() {
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}}))
        .unwrap()
    };
    let services = [
        service("default", "kubernetes", "10.96.0.1"),
        service("ns", "my-app", "10.96.0.9"),
        service("ns", "x", "None"),
    ];
    let variables = service_variables(services.iter(), "ns", true);
    assert_eq!(variables["MY_APP_SERVICE_HOST"], "10.96.0.9");
    assert_eq!(variables["MY_APP_SERVICE_PORT_WEB"], "80");
    assert_eq!(variables["MY_APP_PORT_80_TCP"], "tcp://10.96.0.9:80");
    assert_eq!(variables["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
    assert!(!variables.contains_key("X_SERVICE_HOST"));
    let without = service_variables(services.iter(), "ns", false);
    assert!(without.keys().all(|key| key.starts_with("KUBERNETES_")));
}
