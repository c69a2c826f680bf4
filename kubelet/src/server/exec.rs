//! `/exec`, `/attach` and `/run`: processes in containers, over a WebSocket or SPDY.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cri::{AttachRequest, ExecRequest, Process};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::PodStatus;

use super::channels::{self, Protocol};
use super::{Context, Failure, bad_request, internal, not_found, session, spdy, websocket};
use crate::pod;
use crate::pods::View;

/// Streaming protocols of SPDY, the best first. The first version sends its status as text.
const SPDY_PROTOCOLS: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const VERSION_HEADER: &str = "x-stream-protocol-version";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    /// Both the node agent's own names and the API's.
    fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let mut options = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let on = value == "1" || value == "true";
            match key.as_ref() {
                "command" => options.command.push(value.into_owned()),
                "input" | "stdin" => options.stdin |= on,
                "output" | "stdout" => options.stdout |= on,
                "error" | "stderr" => options.stderr |= on,
                "tty" => options.tty |= on,
                _ => {}
            }
        }
        if options.tty {
            // A terminal has one output.
            options.stderr = false;
        }
        if !options.stdin && !options.stdout && !options.stderr {
            return Err(bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(options)
    }

    /// Streams that a SPDY client opens: these, one for errors, and one for sizes.
    fn streams(&self) -> usize {
        1 + [self.stdin, self.stdout, self.stderr, self.tty].iter().filter(|on| **on).count()
    }
}

type Params = Path<HashMap<String, String>>;

/// The running container that a path names.
fn target(context: &Context, params: &HashMap<String, String>) -> Result<(View, String), Failure> {
    let get = |key: &str| params.get(key).map(String::as_str).unwrap_or_default();
    let found = context.kubelet.pods.find(get("namespace"), get("pod"), params.get("uid").map(String::as_str));
    let view = found.ok_or_else(|| not_found("pod does not exist"))?;
    let id = running_id(&view.status, get("container"));
    let id = id.ok_or_else(|| internal(format!("container not found ({:?})", get("container"))))?;
    Ok((view, id))
}

fn running_id(status: &PodStatus, container: &str) -> Option<String> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let mut statuses = lists.into_iter().flat_map(|list| list.iter().flatten());
    let found = statuses.find(|status| status.name == container)?;
    found.state.as_ref()?.running.as_ref()?;
    found.container_id.as_deref()?.strip_prefix("containerd://").map(str::to_owned)
}

pub(super) async fn exec(
    State(context): State<Context>,
    Path(params): Params,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let options = Options::parse(query.as_deref())?;
    let (_, container_id) = target(&context, &params)?;
    let wanted = ExecRequest {
        container_id,
        command: options.command.clone(),
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    let runtime = context.kubelet.runtime.clone();
    let start = async move { runtime.exec(wanted).await };
    stream(&context, &options, upgrade.ok(), request, start)
}

pub(super) async fn attach(
    State(context): State<Context>,
    Path(params): Params,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let mut options = Options::parse(query.as_deref())?;
    let (view, container_id) = target(&context, &params)?;
    let name = params.get("container").map(String::as_str).unwrap_or_default();
    // The container's terminal decides, not the caller's wish.
    let tty = pod::find_container(&view.pod, name).is_some_and(|container| container.tty.unwrap_or(false));
    let wanted = AttachRequest {
        container_id,
        tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr && !tty,
    };
    options.tty = options.tty || tty && !options.stderr;
    let runtime = context.kubelet.runtime.clone();
    let start = async move { runtime.attach(wanted).await };
    stream(&context, &options, upgrade.ok(), request, start)
}

/// Answers the upgrade; the process starts when the streams are there.
fn stream<F>(
    context: &Context,
    options: &Options,
    upgrade: Option<WebSocketUpgrade>,
    request: Request,
    start: F,
) -> Result<Response, Failure>
where
    F: Future<Output = Result<Process, cri::Error>> + Send + 'static,
{
    if let Some(upgrade) = upgrade {
        let asked = list(request.headers(), header::SEC_WEBSOCKET_PROTOCOL.as_str());
        let name = channels::choose(&asked, &channels::EXEC);
        if name.is_none() && !asked.is_empty() {
            return Err(bad_request(format!("requested protocol(s) are not supported: {asked:?}")));
        }
        let protocol = Protocol::of(name.unwrap_or_default());
        let upgrade = upgrade.protocols(channels::EXEC);
        return Ok(upgrade.on_upgrade(move |socket| {
            websocket::serve(socket, protocol, |incoming, outgoing| run_session(start, incoming, outgoing))
        }));
    }
    let streams = options.streams();
    switch(context, request, &SPDY_PROTOCOLS, move |io| {
        spdy::serve(io, move |events, commands| {
            spdy::session(events, commands, streams, |incoming, outgoing| run_session(start, incoming, outgoing))
        })
    })
}

async fn run_session<F>(
    start: F,
    incoming: tokio::sync::mpsc::Receiver<session::Incoming>,
    outgoing: tokio::sync::mpsc::Sender<session::Outgoing>,
) where
    F: Future<Output = Result<Process, cri::Error>>,
{
    match start.await {
        Ok(process) => session::run(process, incoming, outgoing).await,
        Err(error) => {
            let status = session::failure(&format!("error executing command in container: {}", error.description()));
            let _ = outgoing.send(session::Outgoing::Status(status)).await;
        }
    }
}

/// Values of a header that may come several times, and hold several.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

/// Answers an upgrade to SPDY and hands the connection to `serve`.
pub(super) fn switch<F>(
    context: &Context,
    request: Request,
    protocols: &[&str],
    serve: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
) -> Result<Response, Failure>
where
    F: Future<Output = ()> + Send,
{
    let wants = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if !wants.is_some_and(|wants| wants.eq_ignore_ascii_case("SPDY/3.1")) {
        return Err(bad_request("Upgrade request required"));
    }
    let asked = list(request.headers(), VERSION_HEADER);
    let Some(version) = channels::choose(&asked, protocols) else {
        let message = format!("unable to upgrade: the client asked for {asked:?}, the server speaks {protocols:?}");
        return Err(Failure(StatusCode::FORBIDDEN, message));
    };
    let upgraded = hyper::upgrade::on(request);
    context.kubelet.tasks.spawn("stream", async move {
        match upgraded.await {
            Ok(io) => serve(TokioIo::new(io)).await,
            Err(error) => tracing::debug!(%error, "an upgrade failed"),
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    if let Ok(version) = HeaderValue::from_str(version) {
        headers.insert(VERSION_HEADER, version);
    }
    Ok(answer)
}

/// Runs a command to its end and answers with its output.
pub(super) async fn run(
    State(context): State<Context>,
    Path(params): Params,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let (_, id) = target(&context, &params)?;
    let pairs = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let command = pairs.into_owned().find(|(key, _)| key == "cmd").map(|(_, value)| value).unwrap_or_default();
    let words = command.split(' ').map(str::to_owned).collect();
    let answer = context.kubelet.runtime.exec_sync(&id, words, Duration::ZERO).await;
    let answer = answer.map_err(|error| internal(error.to_string()))?;
    Ok(([answer.stdout, answer.stderr].concat()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parsed = Options::parse(Some("command=sh&command=-c&command=a+b&output=1&error=1&input=1")).ok().unwrap();
        assert_eq!(parsed.command, ["sh", "-c", "a b"]);
        assert_eq!(parsed.streams(), 4);
        let terminal = Options::parse(Some("stdin=true&stdout=true&stderr=true&tty=true")).ok().unwrap();
        assert!(!terminal.stderr);
        assert_eq!(terminal.streams(), 4);
        assert!(Options::parse(Some("command=x")).is_err());
    }
}
