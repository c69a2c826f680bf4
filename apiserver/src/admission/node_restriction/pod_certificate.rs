//! Requests for pods' certificates: a node asks only for pods that it runs, and for signers that they name.
//!
//! What a node's late view of the world explains is no refusal but an error that may be gone the next time.

use api::status::Reason;
use api::{Status, Value, meta};

use super::{MIRROR, NodeRestriction, items, text, word};
use crate::admission::{Attributes, Operation};
use crate::authorize::{self, Authorizer as _, Resource, Target};
use crate::objects::Ref;

fn later(message: String) -> Status {
    Status::new(Reason::Unknown(500), message)
}

impl NodeRestriction {
    pub(super) async fn check_certificate(&self, node: &str, a: &Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Create {
            return Err(a.forbidden(&format!("unexpected operation {}", word(a.operation))));
        }
        if !a.path.subresource.is_empty() {
            return Err(a.forbidden(&format!("unexpected subresource {}", a.path.subresource)));
        }
        let Some(request) = &a.object else {
            return Ok(());
        };
        self.check_own_node(node, request, a).await?;
        let name = text(request, "/spec/podName");
        let full = format!("{}/{name}", a.path.namespace);
        let what = format!("pod {full:?}");
        let pod = self.named(Ref::namespaced("", "pods", &a.path.namespace, name), &what).await?;
        check_pod(&pod, request, &full, a)?;
        self.check_account(&pod, request, &full, a).await?;
        self.check_signer(&pod, request, &full, a)
    }

    async fn check_own_node(&self, node: &str, request: &Value, a: &Attributes<'_>) -> Result<(), Status> {
        let (given, uid) = (text(request, "/spec/nodeName"), text(request, "/spec/nodeUID"));
        if given != node {
            let why =
                format!("PodCertificateRequest.Spec.NodeName={given:?}, which is not the requesting node {node:?}");
            return Err(a.forbidden(&why));
        }
        let object = self.named(Ref::cluster("", "nodes", node), &format!("node {node:?}")).await?;
        if meta::uid(&object) == uid {
            return Ok(());
        }
        let full = format!("{}/{}", a.path.namespace, text(request, "/spec/podName"));
        let running = meta::uid(&object);
        Err(later(format!(
            "PodCertificateRequest for pod {full:?} names node UID {uid:?}, inconsistent with the running node ({running:?})"
        )))
    }

    async fn check_account(&self, pod: &Value, request: &Value, full: &str, a: &Attributes<'_>) -> Result<(), Status> {
        let (given, running) = (text(request, "/spec/serviceAccountName"), text(pod, "/spec/serviceAccountName"));
        if given != running {
            return Err(a.forbidden(&format!(
                "PodCertificateRequest for pod {full:?} contains serviceAccountName ({given:?}) that differs from running pod \
                 ({running:?})"
            )));
        }
        let namespace = &a.path.namespace;
        let what = format!("service account {:?}", format!("{namespace}/{given}"));
        let account = self.named(Ref::namespaced("", "serviceaccounts", namespace, given), &what).await?;
        let (given, running) = (text(request, "/spec/serviceAccountUID"), meta::uid(&account));
        if given == running {
            return Ok(());
        }
        Err(later(format!(
            "PodCertificateRequest for pod {full:?} names service account UID {given:?}, which differs from the running service \
             account ({running:?})"
        )))
    }

    /// A node asks the signers that its pods name, and others when it has the permission.
    fn check_signer(&self, pod: &Value, request: &Value, full: &str, a: &Attributes<'_>) -> Result<(), Status> {
        let signer = text(request, "/spec/signerName");
        let mut sources = items(pod, "/spec/volumes").flat_map(|volume| items(volume, "/projected/sources"));
        if sources.any(|source| text(source, "/podCertificate/signerName") == signer && !signer.is_empty()) {
            return Ok(());
        }
        // A resource's name cannot have slashes.
        let resource = signer.replace('/', ":");
        let asked = Resource {
            group: &a.path.group,
            version: &a.path.version,
            namespace: &a.path.namespace,
            resource: &resource,
            name: text(request, "/spec/serviceAccountName"),
            ..Resource::default()
        };
        let verb = "request-serviceaccounts-podcertificate-signer";
        let asked = authorize::Attributes { user: &a.context.user, verb, target: Target::Resource(asked) };
        if self.authorizer.authorize(&asked).is_allowed() {
            return Ok(());
        }
        Err(a
            .forbidden(&format!("pod {full:?} does not mount a podCertificate projected volume for signer {signer:?}")))
    }

    async fn named(&self, reference: Ref<'_>, what: &str) -> Result<std::sync::Arc<Value>, Status> {
        if let Some(object) = self.objects.get().get(reference) {
            return Ok(object);
        }
        let read = self.objects.get().read(reference).await;
        read.map_err(|status| {
            later(format!("while retrieving {what} named in the PodCertificateRequest: {}", status.message))
        })
    }
}

fn check_pod(pod: &Value, request: &Value, full: &str, a: &Attributes<'_>) -> Result<(), Status> {
    let (given, running) = (text(request, "/spec/podUID"), meta::uid(pod));
    if given != running {
        return Err(later(format!(
            "PodCertificateRequest for pod {full:?} contains pod UID ({given:?}) which differs from running pod {running:?}"
        )));
    }
    let node = text(request, "/spec/nodeName");
    if text(pod, "/spec/nodeName") != node {
        return Err(
            a.forbidden(&format!("pod {full:?} is not running on node {node:?} named in the PodCertificateRequest"))
        );
    }
    match meta::annotation(pod, MIRROR) {
        Some(_) => Err(a.forbidden(&format!("pod {full:?} is a mirror pod"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
