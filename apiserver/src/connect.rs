//! Connections through the server to what runs elsewhere: exec, attach, port-forward, logs, proxies.
//!
//! The server looks up where the request has to go, asks admission, dials, sends the request on, and from then on copies
//! bytes: WebSocket frames, their subprotocols and streams inside of them are between the client and the kubelet.
//!
//! Architecture invariant: an upgrade is authorized as `create`, whatever its method.

mod bridge;
mod dial;
mod kubelet;
mod links;
mod log;
mod pod;
mod proxy;
mod target;

use std::sync::Arc;

use api::{Reason, Status, Value};
use daemon::Tasks;
use http::{Method, header};
use rustls::ClientConfig;

use self::dial::Dialer;
use self::kubelet::Kubelets;
use crate::admission::{self, Chain, Operation};
use crate::answer::{self, Request, Response};
use crate::authorize::{self, Attributes, Authorizer as _, Resource, Union};
use crate::config::KubeletClient;
use crate::objects::{Handle, Ref};
use crate::request::{Context, ResourcePath, Verb};

const POD: [&str; 5] = ["exec", "attach", "portforward", "log", "proxy"];

/// These paths lead to a kubelet, a pod or a service.
pub(crate) fn is_connect(path: &ResourcePath) -> bool {
    match (path.group.as_str(), path.resource.as_str()) {
        ("", "pods") => POD.contains(&path.subresource.as_str()),
        ("", "nodes" | "services") => path.subresource == "proxy",
        _ => false,
    }
}

/// Bridges connections.
pub struct Connects {
    kubelets: Kubelets,
    dialer: Dialer,
    /// For what is proxied to with TLS and is no kubelet.
    unverified: Arc<ClientConfig>,
    objects: Handle,
    authorizer: Union,
    admission: Chain,
}

impl Connects {
    /// Reaches kubelets as configured; connections live as tasks of `tasks`.
    ///
    /// # Errors
    /// When the kubelet client's credential or authority cannot be used.
    pub fn new(
        kubelet: KubeletClient,
        objects: Handle,
        authorizer: Union,
        admission: Chain,
        tasks: Tasks,
    ) -> Result<Self, pki::Error> {
        let kubelets = Kubelets::new(kubelet, objects.clone())?;
        let unverified = Arc::new(pki::tls::unverified_client()?);
        Ok(Self { kubelets, dialer: Dialer::new(tasks), unverified, objects, authorizer, admission })
    }

    /// Answers with what the other side answers.
    pub async fn handle(&self, context: &Context, path: &ResourcePath, request: Request, pretty: bool) -> Response {
        answer::unless_refused(self.answer(context, path, request).await, pretty)
    }

    async fn answer(&self, context: &Context, path: &ResourcePath, request: Request) -> Result<Response, Status> {
        self.check_upgrade(context, path, &request)?;
        match path.subresource.as_str() {
            "log" => self.log(context, path, request).await,
            "exec" | "attach" | "portforward" => self.stream(context, path, request).await,
            _ => self.proxied(context, path, request).await,
        }
    }

    /// An upgrade by GET needs the permission to create as well.
    fn check_upgrade(&self, context: &Context, path: &ResourcePath, request: &Request) -> Result<(), Status> {
        if path.verb == Verb::Create || !request.headers().contains_key(header::UPGRADE) {
            return Ok(());
        }
        let target = authorize::Target::Resource(Resource {
            group: &path.group,
            version: &path.version,
            namespace: &path.namespace,
            resource: &path.resource,
            subresource: &path.subresource,
            name: &path.name,
            ..Resource::default()
        });
        let attributes = Attributes { user: &context.user, verb: "create", target };
        let ruling = self.authorizer.authorize(&attributes);
        if ruling.is_allowed() { Ok(()) } else { Err(authorize::forbidden(&attributes, &ruling.reason)) }
    }

    /// Shows admission what is connected to.
    async fn admit(&self, context: &Context, path: &ResourcePath, kind: &str, options: Value) -> Result<(), Status> {
        let mut attributes = admission::Attributes {
            context,
            path,
            kind,
            operation: Operation::Connect,
            object: Some(options),
            old: None,
            dry_run: false,
        };
        self.admission.admit(&mut attributes).await?;
        self.admission.validate(&attributes).await
    }

    async fn find_pod(&self, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        let reference = Ref::namespaced("", "pods", namespace, name);
        match self.objects.get().get(reference) {
            Some(pod) => Ok(pod),
            None => self.objects.get().read(reference).await,
        }
    }
}

/// 405 for a method that the path does not take.
fn check_method(method: &Method, allowed: &[Method]) -> Result<(), Status> {
    if allowed.contains(method) {
        return Ok(());
    }
    let message = "the server does not allow this method on the requested resource";
    Err(Status::new(Reason::MethodNotAllowed, message).with_details(api::status::Details::default()))
}

fn unavailable(message: impl Into<String>) -> Status {
    Status::new(Reason::ServiceUnavailable, message)
}

#[cfg(test)]
mod tests;
