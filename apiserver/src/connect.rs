//! Connections through the server to what runs elsewhere: exec, attach, port-forward, logs, proxies.
//!
//! Architecture invariant: an upgrade is authorized as `create`, whatever its method.


use api::{Reason, Status};

use crate::admission::Chain;
use crate::answer::{self, Request, Response};
use crate::authorize::Union;
use crate::config::KubeletClient;
use crate::objects::Handle;
use crate::request::{Context, ResourcePath};

const POD: [&str; 5] = ["exec", "attach", "portforward", "log", "proxy"];

/// These paths lead to a kubelet, a pod or a service.
pub fn is_connect(path: &ResourcePath) -> bool {
    match (path.group.as_str(), path.resource.as_str()) {
        ("", "pods") => POD.contains(&path.subresource.as_str()),
        ("", "nodes" | "services") => path.subresource == "proxy",
        _ => false,
    }
}

/// Bridges connections.
pub struct Connects {}

impl Connects {
    /// Reaches kubelets as configured.
    pub fn new(_kubelet: KubeletClient, _objects: Handle, _authorizer: Union, _admission: Chain) -> Self {
        Self {}
    }

    /// Answers with what the other side answers.
    pub async fn handle(&self, _context: &Context, path: &ResourcePath, _request: Request, pretty: bool) -> Response {
        let message = format!("the subresource {} is not served yet", path.subresource);
        answer::refuse(&Status::new(Reason::Unknown(501), message), pretty)
    }
}
