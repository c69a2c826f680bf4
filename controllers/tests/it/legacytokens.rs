//! Tokens of service accounts that are kept in secrets.

use std::{sync::Arc, time::Duration};

use controllers::{Config, ServiceAccountKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use pki::TokenSigner;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

fn config(signer: TokenSigner, names: &str) -> Config {
    Config {
        controllers: names.split(',').map(str::to_owned).collect(),
        root_ca: Some("PEM".to_owned()),
        service_account_key: Some(ServiceAccountKey(Arc::new(signer))),
        token_clean_up_period: Duration::from_millis(1),
        ..Config::default()
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

fn token_secret(name: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gets_a_token_and_goes_with_its_account() {
    let (signer, _) = TokenSigner::create().unwrap();
    let verifier = signer.verifier();
    let Some(cluster) = Cluster::start_with(config(signer, "serviceaccount-token-controller")).await else { return };
    let (accounts, secrets) = (cluster.api::<ServiceAccount>(), cluster.api::<Secret>());
    let account =
        create(&accounts, json!({"metadata": {"name": "robot"}, "secrets": [{"name": "kept"}, {"name": "other"}]}))
            .await;
    create(&secrets, token_secret("kept", "robot")).await;
    create(&secrets, token_secret("stray", "nobody")).await;
    eventually("the secret has a token", || async {
        secrets.get("kept").await.unwrap().data.is_some_and(|data| data.contains_key("token"))
    })
    .await;
    let data = secrets.get("kept").await.unwrap().data.unwrap();
    let entry = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    assert_eq!((entry("ca.crt").as_str(), entry("namespace").as_str()), ("PEM", "default"));
    let claims = verifier.verify(&entry("token"), daemon::clock::now()).unwrap();
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(claims["kubernetes.io/serviceaccount/service-account.uid"], json!(account.metadata.uid));
    let gone = async |name: &str| secrets.get_opt(name).await.unwrap().is_none();
    eventually("a secret of nobody is gone", || gone("stray")).await;

    secrets.delete("kept", &DeleteParams::default()).await.unwrap();
    eventually("the account names it no longer", || async {
        let named = accounts.get("robot").await.unwrap().secrets.unwrap_or_default();
        named.iter().all(|one| one.name.as_deref() == Some("other"))
    })
    .await;
    create(&secrets, token_secret("second", "robot")).await;
    eventually("the second has a token", || async {
        secrets.get("second").await.unwrap().data.is_some_and(|data| data.contains_key("token"))
    })
    .await;
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    eventually("it goes with its account", || gone("second")).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_marked_and_then_deleted() {
    let (signer, _) = TokenSigner::create().unwrap();
    let names = "serviceaccount-token-controller,legacy-serviceaccount-token-cleaner-controller";
    let Some(cluster) = Cluster::start_with(config(signer, names)).await else { return };
    let (accounts, secrets) = (cluster.api::<ServiceAccount>(), cluster.api::<Secret>());
    let merge = async |name: &str, labels: Value| {
        let patch = json!({"metadata": {"labels": labels}});
        secrets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    };
    create(&accounts, json!({"metadata": {"name": "robot"}, "secrets": [{"name": "unasked"}]})).await;
    create(&secrets, token_secret("unasked", "robot")).await;
    create(&secrets, token_secret("asked", "robot")).await;
    // As if use had been noted for years.
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "kube-system");
    let since = json!({"data": {"since": "2020-01-01"}});
    let tracking = "kube-apiserver-legacy-service-account-token-tracking";
    maps.patch(tracking, &PatchParams::default(), &Patch::Merge(since)).await.unwrap();
    let mut turn = 0;
    eventually("it is marked", || {
        turn += 1;
        let labels = json!({"turn": turn.to_string()});
        let (secrets, merge) = (&secrets, &merge);
        async move {
            merge("unasked", labels.clone()).await.unwrap();
            merge("asked", labels).await.unwrap();
            let labels = secrets.get("unasked").await.unwrap().metadata.labels.unwrap_or_default();
            labels.contains_key(INVALID_SINCE)
        }
    })
    .await;
    merge("unasked", json!({INVALID_SINCE: "2020-01-01"})).await.unwrap();
    eventually("it is deleted", || async { secrets.get_opt("unasked").await.unwrap().is_none() }).await;
    let labels = secrets.get("asked").await.unwrap().metadata.labels.unwrap_or_default();
    assert!(!labels.contains_key(INVALID_SINCE), "what was asked for stays: {labels:?}");
    cluster.stop().await;
}
