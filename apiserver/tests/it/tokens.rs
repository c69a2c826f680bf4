//! Tokens of service accounts that are kept in secrets.

use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;
use pki::TokenSigner;
use serde_json::{Value, json};

use crate::server::{Answer, Running};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/robot";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TRACKING: &str = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";

struct Tokens {
    server: Running,
    signer: TokenSigner,
    uid: String,
}

impl Tokens {
    /// A server with the account `robot`, which lists one secret.
    async fn start() -> Self {
        let (signer, key) = TokenSigner::create().unwrap();
        let server = Running::start_with(|_, directory| {
            let path = directory.join("accounts.key");
            std::fs::write(&path, key).unwrap();
            vec![format!("--service-account-signing-key-file={}", path.display())]
        })
        .await;
        let (collection, name) = ACCOUNT.rsplit_once('/').unwrap();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, "secrets": [{"name": "listed"}]});
        let made = send(&server, "POST", collection, "", account).await;
        assert_eq!(made.code, StatusCode::CREATED);
        let uid = made.json()["metadata"]["uid"].as_str().unwrap().to_owned();
        Self { server, signer, uid }
    }

    fn token(&self, secret: &str, uid: &str) -> String {
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:default:robot",
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": uid,
        });
        self.signer.sign(&claims).unwrap()
    }

    /// A secret with a token, and the token.
    async fn kept(&self, name: &str, labels: Value) -> String {
        let token = self.token(name, &self.uid);
        let data = base64::engine::general_purpose::STANDARD.encode(&token);
        let annotations = json!({"kubernetes.io/service-account.name": "robot"});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "data": {"token": data},
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
        });
        let made = send(&self.server, "POST", SECRETS, "", secret).await;
        assert_eq!(made.code, StatusCode::CREATED, "{}", String::from_utf8_lossy(&made.body));
        token
    }

    async fn who_am_i(&self, token: &str) -> Answer {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        send(&self.server, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, review).await
    }

    async fn refusal(&self, token: &str) -> String {
        assert_eq!(self.who_am_i(token).await.code, StatusCode::UNAUTHORIZED);
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = send(&self.server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", "", review).await;
        answer.json()["status"]["error"].as_str().unwrap_or_default().to_owned()
    }

    async fn label(&self, secret: &str, label: &str) -> String {
        let answer = send(&self.server, "GET", &format!("{SECRETS}/{secret}"), "", Value::Null).await;
        answer.json()["metadata"]["labels"][label].as_str().unwrap_or_default().to_owned()
    }
}

async fn send(server: &Running, method: &str, path: &str, token: &str, body: Value) -> Answer {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    server.send(server.request(method, path, token).header("content-type", "application/json"), body).await
}

fn today() -> String {
    api::time::day(daemon::clock::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_as_long_as_its_secret_holds_it() {
    let tokens = Tokens::start().await;
    let before = today();
    let asked = tokens.kept("asked", json!({})).await;
    let answer = tokens.who_am_i(&asked).await;
    let user = &answer.json()["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!((user["uid"].as_str(), user.get("extra")), (Some(tokens.uid.as_str()), None));
    assert!(answer.headers.get("warning").is_none());
    assert!([before, today()].contains(&tokens.label("asked", LAST_USED).await));

    let listed = tokens.kept("listed", json!({LAST_USED: "2020-01-01"})).await;
    let answer = tokens.who_am_i(&listed).await;
    let text = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated \
                secret-based tokens.";
    let warned = |answer: &Answer| answer.headers["warning"].to_str().unwrap().to_owned();
    assert_eq!(warned(&answer), format!("299 - \"{text}\""));
    assert_ne!(tokens.label("listed", LAST_USED).await, "2020-01-01");
    // It is remembered for a while, and what is said with it too.
    assert_eq!(warned(&tokens.who_am_i(&listed).await), format!("299 - \"{text}\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_longer_good_says_why() {
    let tokens = Tokens::start().await;
    let marked = tokens.kept("marked", json!({INVALID_SINCE: "2020-01-01"})).await;
    let why = tokens.refusal(&marked).await;
    let start = "the token in secret default/marked for service account default/robot has been marked invalid. Use";
    assert!(why.starts_with(start), "{why}");
    assert_ne!(tokens.label("marked", LAST_USED).await, "", "its use is noted all the same");

    assert_eq!(tokens.refusal(&tokens.token("none", &tokens.uid)).await, "Token has been invalidated");
    tokens.kept("other", json!({})).await;
    let another = tokens.token("other", "u2");
    assert_eq!(tokens.refusal(&another).await, "Token does not match server's copy");
    let (foreign, _) = TokenSigner::create().unwrap();
    let foreign =
        foreign.sign(&json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:robot"}));
    assert_eq!(tokens.who_am_i(&foreign.unwrap()).await.code, StatusCode::UNAUTHORIZED);

    let orphan = tokens.kept("orphan", json!({})).await;
    assert_eq!(send(&tokens.server, "DELETE", ACCOUNT, "", Value::Null).await.code, StatusCode::OK);
    assert_eq!(tokens.refusal(&orphan).await, "serviceaccounts \"robot\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn since_when_use_is_noted_is_written_down_and_kept() {
    let (server, before) = (Running::start().await, today());
    let since = async || {
        let answer = send(&server, "GET", TRACKING, "", Value::Null).await;
        answer.json()["data"]["since"].as_str().unwrap_or_default().to_owned()
    };
    assert!([before.clone(), today()].contains(&since().await));
    let patch = |since: &str| Bytes::from(json!({"data": {"since": since}}).to_string());
    let change = async |text: &str| {
        let request = server.request("PATCH", TRACKING, "").header("content-type", "application/merge-patch+json");
        assert_eq!(server.send(request, patch(text)).await.code, StatusCode::OK);
    };
    change("2020-01-01").await;
    assert_eq!(since().await, "2020-01-01");
    change("long ago").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while api::time::parse_day(&since().await).is_none() {
        assert!(tokio::time::Instant::now() < deadline, "what is no date is not mended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!([before, today()].contains(&since().await));
}
