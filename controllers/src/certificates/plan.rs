//! What a request is, and what becomes of it. Pure.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition, PodCertificateRequest},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use pki::{CertificateRequest, SignOptions, Usage};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";
pub(super) const NODE_PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";

const SHORTEST: Duration = Duration::from_secs(10 * 60);
/// How long a decided request is kept.
const DECIDED: Duration = Duration::from_secs(60 * 60);
/// How long a request is kept that waits.
const PENDING: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a pod's request is kept, whatever became of it.
const POD_REQUEST: Duration = Duration::from_secs(15 * 60);

/// A request of a kind that may be approved without a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recognized {
    /// Subresource of `certificatesigningrequests` that the requester has to be allowed to create.
    pub(super) permission: &'static str,
    message: &'static str,
}

const SELF_CLIENT: Recognized = Recognized {
    permission: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE_CLIENT: Recognized = Recognized {
    permission: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};
const SELF_SERVER: Recognized = Recognized {
    permission: "selfnodeserver",
    message: "Auto approving self kubelet server certificate after SubjectAccessReview.",
};

fn has(request: &CertificateSigningRequest, type_: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == type_ && it.status != "False")
}

pub(super) fn is_decided(request: &CertificateSigningRequest) -> bool {
    has(request, "Approved") || has(request, "Denied")
}

pub(super) fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|it| !it.0.is_empty())
}

pub(super) fn is_signable(request: &CertificateSigningRequest) -> bool {
    has(request, "Approved") && !has(request, "Denied") && !has(request, "Failed") && !is_issued(request)
}

pub(super) fn recognize(
    request: &CertificateSigningRequest,
    parsed: &CertificateRequest,
    node: Option<&Node>,
) -> Vec<Recognized> {
    let is_own = request.spec.username.as_deref() == Some(&parsed.common_name);
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT if check_kubelet_client(parsed, &usages(request)).is_err() => Vec::new(),
        KUBELET_CLIENT if is_own => vec![SELF_CLIENT, NODE_CLIENT],
        KUBELET_CLIENT => vec![NODE_CLIENT],
        KUBELET_SERVING => {
            let valid = check_kubelet_serving(parsed, &usages(request)).is_ok();
            let named = node.is_some_and(|node| names_only(parsed, node));
            if valid && is_own && named { vec![SELF_SERVER] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

/// Every name in the request is an address of the node.
fn names_only(parsed: &CertificateRequest, node: &Node) -> bool {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let known: BTreeSet<&str> = addresses.iter().map(|it| it.address.as_str()).collect();
    let is_name = |name: &String| known.contains(name.as_str()) || node.metadata.name.as_ref() == Some(name);
    parsed.dns_names.iter().all(is_name) && parsed.ip_addresses.iter().all(|ip| known.contains(ip.to_string().as_str()))
}

fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

fn check_usages(usages: &BTreeSet<&str>, role: &'static str) -> Result<(), String> {
    let with: BTreeSet<&str> = ["digital signature", "key encipherment", role].into();
    let without: BTreeSet<&str> = ["digital signature", role].into();
    if *usages == with || *usages == without {
        return Ok(());
    }
    let list: Vec<_> = with.into_iter().collect();
    Err(format!("usages did not match [{}]", list.join(" ")))
}

fn check_nodes_group(parsed: &CertificateRequest) -> Result<(), String> {
    if parsed.organizations == [NODES] { Ok(()) } else { Err("subject organization is not system:nodes".to_owned()) }
}

fn check_node_name(parsed: &CertificateRequest) -> Result<(), String> {
    let named = parsed.common_name.starts_with(NODE_PREFIX);
    if named { Ok(()) } else { Err("subject common name does not begin with system:node:".to_owned()) }
}

fn check_absent(names: bool, kind: &str) -> Result<(), String> {
    if names { Err(format!("{kind} subjectAltNames are not allowed")) } else { Ok(()) }
}

fn check_kubelet_client(parsed: &CertificateRequest, usages: &BTreeSet<&str>) -> Result<(), String> {
    check_nodes_group(parsed)?;
    check_absent(!parsed.dns_names.is_empty(), "DNS")?;
    check_absent(!parsed.email_addresses.is_empty(), "Email")?;
    check_absent(!parsed.ip_addresses.is_empty(), "IP")?;
    check_absent(!parsed.uris.is_empty(), "URI")?;
    check_node_name(parsed)?;
    check_usages(usages, "client auth")
}

fn check_kubelet_serving(parsed: &CertificateRequest, usages: &BTreeSet<&str>) -> Result<(), String> {
    check_nodes_group(parsed)?;
    if parsed.dns_names.is_empty() && parsed.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    check_absent(!parsed.email_addresses.is_empty(), "Email")?;
    check_absent(!parsed.uris.is_empty(), "URI")?;
    check_usages(usages, "server auth")?;
    check_node_name(parsed)
}

fn check_client(usages: &BTreeSet<&str>) -> Result<(), String> {
    let allowed = ["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.contains("client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_owned())
}

/// How to sign a request, or why it cannot be; nothing when another signer is asked.
pub(super) fn options(
    request: &CertificateSigningRequest,
    parsed: &CertificateRequest,
    limit: Duration,
) -> Option<Result<SignOptions, String>> {
    let names = usages(request);
    let checked = match request.spec.signer_name.as_str() {
        CLIENT => check_client(&names),
        KUBELET_CLIENT => check_kubelet_client(parsed, &names),
        KUBELET_SERVING => check_kubelet_serving(parsed, &names),
        LEGACY => Ok(()),
        _ => return None,
    };
    let asked = request.spec.expiration_seconds.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);
    let lifetime = asked.map_or(limit, |asked| asked.max(SHORTEST).min(limit));
    let known =
        |name: &&str| Usage::from_api_name(name).ok_or_else(|| format!("unrecognized usage values: [{name:?}]"));
    Some(checked.and_then(|()| {
        let usages = names.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let lifetime = SignedDuration::try_from(lifetime).map_err(|error| error.to_string())?;
        Ok(SignOptions { usages, lifetime })
    }))
}

pub(super) fn approve(request: &mut CertificateSigningRequest, recognized: &Recognized, now: Timestamp) {
    add(request, "Approved", "AutoApproved", recognized.message, Time(now));
}

pub(super) fn fail(request: &mut CertificateSigningRequest, reason: &str, now: Time) {
    add(request, "Failed", "SignerValidationFailure", reason, now);
}

fn add(request: &mut CertificateSigningRequest, type_: &str, reason: &str, message: &str, now: Time) {
    let condition = CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    request.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// To be looked at again after this time.
    Young(Duration),
    Old,
}

/// How long a pod's request stays.
pub(super) fn pod_request_left(request: &PodCertificateRequest, now: Timestamp) -> Duration {
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let passed = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    POD_REQUEST.saturating_sub(passed)
}

/// Whether a request has been there for long enough.
pub(super) fn age(request: &CertificateSigningRequest, now: Timestamp) -> Age {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let issued = is_issued(request);
    let limit = |it: &CertificateSigningRequestCondition| {
        let keep = match it.type_.as_str() {
            "Approved" if !issued => PENDING,
            _ => DECIDED,
        };
        Some((it.last_update_time.as_ref()?.0, keep))
    };
    let created = request.metadata.creation_timestamp.as_ref().map(|time| (time.0, PENDING));
    let mut limits: Vec<_> = conditions.iter().filter_map(limit).collect();
    if conditions.is_empty() {
        limits.extend(created);
    }
    let left = limits.into_iter().map(|(since, keep)| {
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        keep.saturating_sub(passed)
    });
    match left.min() {
        Some(Duration::ZERO) => Age::Old,
        Some(left) => Age::Young(left),
        None => Age::Young(PENDING),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
