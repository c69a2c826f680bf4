//! Proxies to nodes, pods and services.

use api::{Status, Value, meta};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use rand::seq::IndexedRandom as _;
use serde_json::json;

use super::dial::Place;
use super::links::Links;
use super::target::{Named, split};
use super::{Connects, bridge, unavailable};
use crate::answer::{Body, Request, Response};
use crate::objects::Ref;
use crate::request::{Context, ResourcePath};

impl Connects {
    /// Sends a request on to a node, pod or service.
    pub(super) async fn proxied(
        &self,
        context: &Context,
        path: &ResourcePath,
        request: Request,
    ) -> Result<Response, Status> {
        let kind = match path.resource.as_str() {
            "nodes" => "NodeProxyOptions",
            "pods" => "PodProxyOptions",
            _ => "ServiceProxyOptions",
        };
        let options = json!({"kind": kind, "apiVersion": "v1", "path": path.tail});
        self.admit(context, path, kind, options).await?;
        let own = request.uri().clone();
        let place = match path.resource.as_str() {
            "nodes" => self.node_place(split(&path.name, "node")?).await?,
            "pods" => self.pod_place(&path.namespace, split(&path.name, "pod")?).await?,
            _ => self.service_place(&path.namespace, split(&path.name, "service")?).await?,
        };
        if path.tail.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(with_slash(&own));
        }
        let target = target(&path.tail, own.query())?;
        let prefix = own.path().strip_suffix(path.tail.as_str()).unwrap_or(own.path()).to_owned();
        let request = with_forwarded(request);
        let asked = request.headers().get("x-forwarded-host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let links = Links { prefix, answering: place.authority(), asked: asked.to_owned() };
        let method = request.method().clone();
        let answer = bridge::forward(&self.dialer, &place, target, request).await?;
        Ok(links.rewrite(&method, answer))
    }

    async fn node_place(&self, named: Named<'_>) -> Result<Place, Status> {
        let kubelet = self.kubelets.place(named.name).await?;
        if named.port.is_empty() || named.port == kubelet.port.to_string() {
            return Ok(kubelet);
        }
        // A kubelet proves who it is; what listens on another port does not, and a node may claim any address.
        if !is_reachable(&kubelet.host) {
            return Err(Status::bad_request("address not allowed"));
        }
        self.place(named, kubelet.host)
    }

    async fn pod_place(&self, namespace: &str, named: Named<'_>) -> Result<Place, Status> {
        let pod = self.find_pod(namespace, named.name).await?;
        let address = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !is_reachable(&address) {
            return Err(Status::bad_request("address not allowed"));
        }
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let mut ports = containers.filter_map(|one| one.pointer("/ports/0/containerPort")?.as_u64());
        let first = ports.next().map(|port| port.to_string());
        let port = if named.port.is_empty() { first.as_deref().unwrap_or_default() } else { named.port };
        self.place(Named { port, ..named }, address)
    }

    async fn service_place(&self, namespace: &str, named: Named<'_>) -> Result<Place, Status> {
        let Named { name, port, .. } = named;
        let mut wanted = port.to_owned();
        if let Ok(number) = port.parse::<u64>() {
            let service = self.objects.get().read(Ref::namespaced("", "services", namespace, name)).await?;
            let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
            let found = ports.into_iter().find(|one| one["port"] == number);
            let found =
                found.ok_or_else(|| unavailable(format!("no service port {number} found for service {name:?}")))?;
            wanted = found.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        let slices = self.objects.get().list(Ref::collection("discovery.k8s.io", "endpointslices", namespace));
        let own = slices.iter().filter(|slice| meta::label(slice, "kubernetes.io/service-name") == Some(name));
        let places: Vec<Endpoint> = own.flat_map(|slice| endpoints(slice, &wanted)).collect();
        let places: Vec<Endpoint> = places.into_iter().filter(|place| self.is_pod(namespace, place)).collect();
        let none = || unavailable(format!("no endpoints available for service {name:?}"));
        let chosen = places.choose(&mut rand::rng()).ok_or_else(none)?;
        self.place(Named { port: &chosen.port.to_string(), ..named }, chosen.address.clone())
    }

    /// Where something else than a kubelet listens. With TLS, whatever certificate it shows.
    fn place(&self, named: Named<'_>, host: String) -> Result<Place, Status> {
        let tls = (named.scheme == "https").then(|| self.unverified.clone());
        let port = match named.port {
            "" if tls.is_some() => 443,
            "" => 80,
            text => text.parse().map_err(|_| Status::bad_request(format!("invalid port {text:?}")))?,
        };
        Ok(Place { host, port, tls })
    }

    /// The address is that of the pod which the endpoint names: whoever may write endpoints must not be able to send the server
    /// elsewhere.
    fn is_pod(&self, namespace: &str, place: &Endpoint) -> bool {
        let pod = self.objects.get().get(Ref::namespaced("", "pods", namespace, &place.pod));
        pod.is_some_and(|pod| {
            let addresses = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
            is_reachable(&place.address) && addresses.into_iter().any(|one| one["ip"] == place.address.as_str())
        })
    }
}

/// A ready endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) port: u64,
    pub(super) pod: String,
}

/// The ready endpoints of a slice that are pods and have the wanted port; an empty name is the first.
pub(super) fn endpoints(slice: &Value, port: &str) -> Vec<Endpoint> {
    let ports = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
    let is_wanted =
        |one: &&Value| port.is_empty() || one.get("name").and_then(Value::as_str).unwrap_or_default() == port;
    let Some(port) = ports.into_iter().find(is_wanted).and_then(|one| one.get("port")?.as_u64()) else {
        return Vec::new();
    };
    let all = slice.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    let ready = all.filter(|one| one.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true));
    let endpoint = |one: &Value| {
        let target = one.get("targetRef").filter(|target| target["kind"] == "Pod")?;
        let (address, pod) = (one.pointer("/addresses/0")?.as_str()?, target.get("name")?.as_str()?);
        Some(Endpoint { address: address.to_owned(), port, pod: pod.to_owned() })
    };
    ready.filter_map(endpoint).collect()
}

/// Neither this host itself nor its link.
fn is_reachable(address: &str) -> bool {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(v4)) => {
            !(v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast())
        }
        Ok(std::net::IpAddr::V6(v6)) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
        }
        Err(_) => false,
    }
}

fn target(tail: &str, query: Option<&str>) -> Result<Uri, Status> {
    let path = if tail.is_empty() { "/" } else { tail };
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse().map_err(|error| Status::bad_request(format!("{text:?} is no path: {error}")))
}

/// Relative links in the answer need the slash.
fn with_slash(uri: &Uri) -> Response {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn with_forwarded(mut request: Request) -> Request {
    let path = HeaderValue::from_str(request.uri().path());
    let host = request.headers().get(header::HOST).cloned();
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    if let Ok(path) = path {
        headers.insert("x-forwarded-uri", path);
    }
    if let Some(host) = host.or(authority) {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    request
}
