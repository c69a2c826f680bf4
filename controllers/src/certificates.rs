//! Certificate signing requests: approves those of kubelets, signs what is approved, removes what is old.
//!
//! Approval asks the API server whether the requester may have such a certificate approved (a SubjectAccessReview on a
//! subresource of `certificatesigningrequests`), so that roles decide and not this code. A kubelet's serving certificate
//! is approved only if, in addition, every name in it is an address of that kubelet's node; upstream approves none.

mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{CertificateSigningRequest, PodCertificateRequest},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
};
use pki::{Authority, CertificateRequest};
use reconcile::{Change, Informer, Key, Queue};

use self::plan::{Age, Recognized};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 5;

/// Queues the names of requests that change, and works them off.
async fn work<F>(context: &Context, name: &'static str, sync: impl Fn(Arc<CertificateSigningRequest>) -> F)
where
    F: Future<Output = Result<Option<Duration>, Error>>,
{
    let requests = context.informer::<CertificateSigningRequest>();
    let queue = Queue::<String>::new();
    let changed = queue.clone();
    requests.handle(move |change| {
        if !change.is_deleted() {
            changed.add(change.object().name_any());
        }
    });
    requests.synced().await;
    let sync = |name: String| {
        let work = requests.get("", &name).map(&sync);
        async move {
            match work {
                Some(work) => work.await,
                None => Ok(None),
            }
        }
    };
    context.work(name, &queue, WORKERS, sync).await;
}

fn parse(request: &CertificateSigningRequest) -> Option<CertificateRequest> {
    let text = std::str::from_utf8(&request.spec.request.0).ok()?;
    // The server has refused what cannot be read; what this cannot read is left to others.
    CertificateRequest::from_pem(text).ok()
}

/// Approves requests of kubelets.
pub(crate) async fn run_approving(context: Context) -> Result<(), Error> {
    let nodes = context.informer::<Node>();
    nodes.synced().await;
    work(&context, "certificatesigningrequest-approving-controller", |request| approve(&context, &nodes, request))
        .await;
    Ok(())
}

async fn approve(
    context: &Context,
    nodes: &Informer<Node>,
    request: Arc<CertificateSigningRequest>,
) -> Result<Option<Duration>, Error> {
    if plan::is_decided(&request) || plan::is_issued(&request) {
        return Ok(None);
    }
    let Some(parsed) = parse(&request) else { return Ok(None) };
    let node = parsed.common_name.strip_prefix(plan::NODE_PREFIX).and_then(|name| nodes.get("", name));
    for recognized in plan::recognize(&request, &parsed, node.as_deref()) {
        if allows(context, &request, &recognized).await? {
            let mut approved = (*request).clone();
            plan::approve(&mut approved, &recognized, daemon::clock::now());
            let api = Api::<CertificateSigningRequest>::all(context.client.clone());
            let name = request.name_any();
            let written = api.replace_subresource("approval", &name, &PostParams::default(), &approved).await;
            written.during("approve certificate request", &name)?;
            return Ok(None);
        }
    }
    Ok(None)
}

async fn allows(context: &Context, request: &CertificateSigningRequest, it: &Recognized) -> Result<bool, Error> {
    let attributes = ResourceAttributes {
        group: Some("certificates.k8s.io".to_owned()),
        resource: Some("certificatesigningrequests".to_owned()),
        verb: Some("create".to_owned()),
        subresource: Some(it.permission.to_owned()),
        version: Some("*".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = Api::<SubjectAccessReview>::all(context.client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.during("review access of", request.spec.username.as_deref().unwrap_or_default())?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Signs approved requests with the cluster's certificate.
pub(crate) async fn run_signing(context: Context) -> Result<(), Error> {
    let Some(signing) = context.config.signing.clone() else {
        tracing::warn!("no signing certificate configured, requests are not signed");
        context.drain.cancelled().await;
        return Ok(());
    };
    let authority = Authority::from_pem(&signing.certificate, &signing.key).map_err(Error::Signing)?;
    let limit = signing.duration;
    work(&context, "certificatesigningrequest-signing-controller", |it| sign(&context, &authority, limit, it)).await;
    Ok(())
}

async fn sign(
    context: &Context,
    authority: &Authority,
    limit: Duration,
    request: Arc<CertificateSigningRequest>,
) -> Result<Option<Duration>, Error> {
    if !plan::is_signable(&request) {
        return Ok(None);
    }
    let Some(parsed) = parse(&request) else { return Ok(None) };
    let now = daemon::clock::now();
    let mut signed = (*request).clone();
    match plan::options(&request, &parsed, limit) {
        Some(Ok(options)) => {
            let certificate = authority.sign_request(&parsed, &options, now).map_err(Error::Signing)?;
            let certificate = k8s_openapi::ByteString(certificate.into_bytes());
            signed.status.get_or_insert_default().certificate = Some(certificate);
        }
        Some(Err(reason)) => plan::fail(&mut signed, &reason, Time(now)),
        None => return Ok(None),
    }
    let api = Api::<CertificateSigningRequest>::all(context.client.clone());
    let name = request.name_any();
    let written = api.replace_status(&name, &PostParams::default(), &signed).await;
    written.during("sign certificate request", &name)?;
    Ok(None)
}

/// Removes requests some time after they were decided, or when nobody decides.
pub(crate) async fn run_cleaner(context: Context) -> Result<(), Error> {
    work(&context, "certificatesigningrequest-cleaner-controller", |request| clean(&context, request)).await;
    Ok(())
}

async fn clean(context: &Context, request: Arc<CertificateSigningRequest>) -> Result<Option<Duration>, Error> {
    match plan::age(&request, daemon::clock::now()) {
        Age::Young(left) => Ok(Some(left)),
        Age::Old => {
            let api = Api::<CertificateSigningRequest>::all(context.client.clone());
            let name = request.name_any();
            let deleted = api.delete(&name, &DeleteParams::default()).await.map(drop);
            deleted.during("delete certificate request", &name).found()?;
            Ok(None)
        }
    }
}

/// Removes pods' requests after a time in which every one is answered.
pub(crate) async fn run_pod_cleaner(context: Context) -> Result<(), Error> {
    let (requests, queue) = (context.informer::<PodCertificateRequest>(), Queue::<Key>::new());
    let changed = queue.clone();
    requests.handle(move |change| {
        if matches!(change, Change::Added(_)) {
            changed.add(Key::of(&**change.object()));
        }
    });
    requests.synced().await;
    let sync = |key: Key| {
        let (request, client) = (requests.get(&key.namespace, &key.name), context.client.clone());
        async move {
            let Some(request) = request else { return Ok(None) };
            let left = plan::pod_request_left(&request, daemon::clock::now());
            if !left.is_zero() {
                return Ok(Some(left));
            }
            let api = Api::<PodCertificateRequest>::namespaced(client, &key.namespace);
            let preconditions = Preconditions { uid: request.metadata.uid.clone(), resource_version: None };
            let only_it = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            let deleted = api.delete(&key.name, &only_it).await.map(drop);
            deleted.during("delete pod certificate request", &key).found()?;
            Ok(None)
        }
    };
    context.work("podcertificaterequest-cleaner-controller", &queue, 1, sync).await;
    Ok(())
}
