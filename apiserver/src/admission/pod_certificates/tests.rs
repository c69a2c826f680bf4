//! Who answers requests of pods, and with what.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::authorize::{self, Authorizer, Decision, Rules, Ruling, Target};
use crate::registry::tests::{Answer, Server, server_with};
use crate::request::User;

const PATH: &str = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";
/// How far certificates are dated back.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
const LIFE: SignedDuration = SignedDuration::from_hours(2);

/// May sign for one name and nothing else.
struct Only(&'static str);

impl Authorizer for Only {
    fn authorize(&self, asked: &authorize::Attributes<'_>) -> Ruling {
        let Target::Resource(resource) = &asked.target else { return Ruling::no_opinion("") };
        let is = asked.verb == "sign" && resource.resource == "signers" && resource.name == self.0;
        Ruling { decision: if is { Decision::Allow } else { Decision::NoOpinion }, ..Ruling::no_opinion("") }
    }

    fn rules(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

/// What a server and a request to it are made of.
struct Scene {
    server: Server,
    authority: pki::Authority,
    stub: String,
    made: Value,
}

impl Scene {
    async fn new(may: &'static str) -> Self {
        let signing = PodCertificateSigning(Union::new(vec![("only", Arc::new(Only(may)))]));
        let server = server_with(vec![Arc::new(signing)]).await;
        let (stub, _) = pki::CertificateRequest::create(&pki::Profile::client("", [""; 0])).unwrap();
        let (_, der) = x509_parser::pem::parse_x509_pem(stub.as_bytes()).unwrap();
        let request = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {
                "signerName": "example.com/signer", "podName": "p", "podUID": "1", "serviceAccountName": "s",
                "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86400,
                "stubPKCS10Request": STANDARD.encode(&der.contents),
            },
        });
        let made = server.create(PATH, &request).await;
        assert_eq!(made.code, 201, "{}", made.body);
        let authority = pki::Authority::create("test", daemon::clock::now()).unwrap();
        Self { server, authority, stub, made: made.body }
    }

    fn sign(&self, request: &str) -> String {
        let request = pki::CertificateRequest::from_pem(request).unwrap();
        let options = pki::SignOptions { usages: vec![pki::Usage::ClientAuth], lifetime: LIFE };
        self.authority.sign_request(&request, &options, daemon::clock::now() + BACKDATE).unwrap()
    }

    /// A status that is right for the first certificate of the chain.
    fn issued(chain: &str) -> Value {
        let leaf = pki::Certificate::from_pem(chain).unwrap();
        let condition = json!({"type": "Issued", "status": "True", "reason": "R",
                               "lastTransitionTime": leaf.not_before.to_string()});
        let refresh = leaf.not_before + SignedDuration::from_hours(1);
        json!({"conditions": [condition], "certificateChain": chain, "notBefore": leaf.not_before.to_string(),
               "notAfter": leaf.not_after.to_string(), "beginRefreshAt": refresh.to_string()})
    }

    async fn answer(&self, status: &Value) -> Answer {
        let mut changed = self.made.clone();
        changed["status"] = status.clone();
        self.server.put(&format!("{PATH}/a/status"), &changed).await
    }

    async fn refused(&self, status: &Value, expected: &str) {
        let answer = self.answer(status).await;
        assert_eq!(answer.code, 422, "{}", answer.body);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn only_who_may_sign_for_the_signer_answers() {
    for may in ["example.com/signer", "example.com/*"] {
        let scene = Scene::new(may).await;
        let status = Scene::issued(&scene.sign(&scene.stub));
        let answer = scene.answer(&status).await;
        assert_eq!(answer.code, 200, "{}", answer.body);
    }
    let scene = Scene::new("example.com/other").await;
    let denied = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "R",
                                        "lastTransitionTime": "2030-01-01T00:00:00Z"}]});
    let why = "PodCertificateRequest.certificates.k8s.io \"a\" is invalid: spec.signerName: Forbidden: User \"admin\" is not \
               permitted to \"sign\" for signer \"example.com/signer\"";
    scene.refused(&denied, why).await;
    scene.refused(&Scene::issued(&scene.sign(&scene.stub)), why).await;
    assert_eq!(scene.answer(&json!({})).await.code, 200, "nothing changes");
}

#[tokio::test]
async fn what_is_issued_answers_the_request() {
    let scene = Scene::new("example.com/signer").await;
    let chain = scene.sign(&scene.stub);
    let good = Scene::issued(&chain);
    let with = |field: &str, value: Value| {
        let mut status = good.clone();
        status[field] = value;
        status
    };
    let (other, _) = pki::CertificateRequest::create(&pki::Profile::client("", [""; 0])).unwrap();
    scene
        .refused(&Scene::issued(&scene.sign(&other)), "leaf certificate was not issued to the requested public key")
        .await;
    let other = with("certificateChain", json!("no PEM"));
    scene.refused(&other, "must contain at least one certificate").await;
    let other = with("certificateChain", json!(scene.stub));
    scene.refused(&other, "must consist entirely of CERTIFICATE PEM blocks").await;
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    scene.refused(&with("certificateChain", json!(damaged)), "leaf certificate does not parse as valid X.509").await;
    let after = with("certificateChain", json!(format!("{chain}{damaged}")));
    scene.refused(&after, "intermediate certificate does not parse as valid X.509").await;
    let after = with("certificateChain", json!(format!("{chain}{}", scene.stub)));
    scene.refused(&after, "must consist entirely of CERTFICATE PEM blocks").await;
    let start: Timestamp = good["notBefore"].as_str().unwrap().parse().unwrap();
    let later = with("notBefore", json!((start + SignedDuration::from_secs(1)).to_string()));
    scene.refused(&later, "must be set to the NotBefore time encoded in the leaf certificate").await;
    let end: Timestamp = good["notAfter"].as_str().unwrap().parse().unwrap();
    let later = with("notAfter", json!((end + SignedDuration::from_secs(1)).to_string()));
    scene.refused(&later, "must be set to the NotAfter time encoded in the leaf certificate").await;
    assert_eq!(scene.answer(&good).await.code, 200, "nothing of it was stored");
}
