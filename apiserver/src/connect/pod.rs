//! exec, attach, port-forward and logs: a pod's kubelet answers them.

use api::field::{FieldErrors, Path};
use api::{Reason, Status, Value, meta};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, json};
use url::form_urlencoded::Serializer;

use super::{Connects, bridge, check_method, log};
use crate::answer::{Body, Request, Response};
use crate::request::{Context, ResourcePath};

/// How much of a kubelet's refusal is shown.
const REFUSAL_MAX_BYTES: usize = 2048;
const LOG_NUMBERS: [(&str, i64); 3] = [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)];
const LOG_SWITCHES: [&str; 3] = ["follow", "previous", "timestamps"];

impl Connects {
    /// exec, attach, port-forward.
    pub(super) async fn stream(
        &self,
        context: &Context,
        path: &ResourcePath,
        request: Request,
    ) -> Result<Response, Status> {
        check_method(request.method(), &[Method::GET, Method::POST])?;
        let (kind, options) = stream_options(context, &path.subresource);
        self.admit(context, path, kind, options).await?;
        let pod = self.find_pod(&path.namespace, &path.name).await?;
        let place = match path.subresource.as_str() {
            "portforward" => String::new(),
            _ => format!("/{}", container(&pod, context.param("container").unwrap_or_default())?),
        };
        let node = node_of(&pod);
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", path.name)));
        }
        if !bridge::is_upgrade(request.headers()) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let word = if path.subresource == "portforward" { "portForward" } else { &path.subresource };
        let query = stream_query(context, &path.subresource);
        let uri = uri(&format!("/{word}/{}/{}{place}", path.namespace, path.name), &query)?;
        let kubelet = self.kubelets.place(node).await?;
        bridge::forward(&self.dialer, &kubelet, uri, request).await
    }

    /// log.
    pub(super) async fn log(
        &self,
        context: &Context,
        path: &ResourcePath,
        request: Request,
    ) -> Result<Response, Status> {
        check_method(request.method(), &[Method::GET, Method::HEAD])?;
        let query = log_query(context, &path.name)?;
        let pod = self.find_pod(&path.namespace, &path.name).await?;
        let container = container(&pod, context.param("container").unwrap_or_default())?;
        let node = node_of(&pod);
        if node.is_empty() {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        }
        let uri = uri(&format!("/containerLogs/{}/{}/{container}", path.namespace, path.name), &query)?;
        let kubelet = self.kubelets.place(node).await?;
        let mut asked = Request::new(Body::empty());
        *asked.method_mut() = Method::GET;
        let mut answer = bridge::forward(&self.dialer, &kubelet, uri, asked).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        if log::is_websocket(request.headers()) {
            return log::upgrade(request, answer, self.dialer.tasks().drain().clone()).await;
        }
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(answer)
    }
}

/// The container that is meant, with upstream's refusals.
pub(super) fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |field: &str| {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|one| Some(one.get("name")?.as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let pod = meta::name(pod);
    let regular = names("containers");
    let all = [names("initContainers"), regular.clone(), names("ephemeralContainers")].concat();
    match (asked, regular.as_slice()) {
        ("", [one]) => Ok(one.clone()),
        ("", []) => Err(Status::bad_request(format!("a container name must be specified for pod {pod}"))),
        ("", _) => {
            let names = all.join(" ");
            let message = format!("a container name must be specified for pod {pod}, choose one of: [{names}]");
            Err(Status::bad_request(message))
        }
        (asked, _) if all.iter().any(|name| name == asked) => Ok(asked.to_owned()),
        (asked, _) => Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}"))),
    }
}

fn node_of(pod: &Value) -> &str {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default()
}

fn is_set(context: &Context, key: &str) -> bool {
    context.param(key).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "f" | "false"))
}

/// The options' kind and object, for admission.
fn stream_options(context: &Context, subresource: &str) -> (&'static str, Value) {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut options = Map::new();
    options.insert("kind".to_owned(), json!(kind));
    options.insert("apiVersion".to_owned(), json!("v1"));
    for field in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|field| is_set(context, field)) {
        options.insert(field.to_owned(), json!(true));
    }
    if let Some(container) = context.param("container").filter(|name| !name.is_empty()) {
        options.insert("container".to_owned(), json!(container));
    }
    let lists = [("command", "exec"), ("ports", "portforward")];
    for (field, _) in lists.into_iter().filter(|(_, of)| *of == subresource) {
        let values: Vec<&str> = context.params(field).collect();
        options.insert(field.to_owned(), json!(values));
    }
    (kind, Value::Object(options))
}

/// The kubelet's own names of the options.
pub(super) fn stream_query(context: &Context, subresource: &str) -> String {
    let mut query = Serializer::new(String::new());
    if subresource == "portforward" {
        let ports: Vec<&str> = context.params("ports").collect();
        if !ports.is_empty() {
            query.append_pair("port", &ports.join(","));
        }
        return query.finish();
    }
    for (field, word) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if is_set(context, field) {
            query.append_pair(word, "1");
        }
    }
    if subresource == "exec" {
        for word in context.params("command") {
            query.append_pair("command", word);
        }
    }
    query.finish()
}

fn log_query(context: &Context, pod: &str) -> Result<String, Status> {
    let mut errors = FieldErrors::new();
    let mut query = Serializer::new(String::new());
    for switch in LOG_SWITCHES.into_iter().filter(|switch| is_set(context, switch)) {
        query.append_pair(switch, "true");
    }
    for (field, least) in LOG_NUMBERS {
        let Some(text) = context.param(field).filter(|text| !text.is_empty()) else {
            continue;
        };
        let number: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if number < least {
            let detail = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.invalid(&Path::new(field), json!(number), detail);
        }
        query.append_pair(field, text);
    }
    let since = context.param("sinceTime").filter(|text| !text.is_empty());
    if let Some(time) = since {
        query.append_pair("sinceTime", time);
    }
    if since.is_some() && context.param("sinceSeconds").is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.forbidden(&Path::new(""), detail);
    }
    let stream = context.param("stream").filter(|text| !text.is_empty()).unwrap_or("All");
    if !matches!(stream, "All" | "Stdout" | "Stderr") {
        errors.not_supported(&Path::new("stream"), json!(stream), &["All", "Stderr", "Stdout"]);
    }
    if stream != "All" && context.param("tailLines").is_some() {
        errors.forbidden(&Path::new(""), "`tailLines` and specific `stream` are mutually exclusive for now");
    }
    query.append_pair("stream", stream);
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", pod, &errors));
    }
    Ok(query.finish())
}

fn uri(path: &str, query: &str) -> Result<Uri, Status> {
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    text.parse().map_err(|error| Status::internal(format!("{text:?} is no URI: {error}")))
}

/// A kubelet's refusal in the server's words.
async fn refusal(answer: Response) -> Status {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_MAX_BYTES).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let message = format!("the server could not find the requested resource: {text}");
            Status::new(Reason::NotFound, message)
        }
        other => Status::new(Reason::Unknown(other.as_u16()), text),
    }
}
