//! One server through the whole corpus.

use anyhow::{Context as _, Result, ensure};
use api::protobuf;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use serde_json::{Map, Value};

use crate::{
    corpus::{Form, Sequence, Step},
    normal::{self, Normal},
    server::{ADMIN_TOKEN, Server, USER_TOKEN, Which},
    template,
};

/// Some steps wait for a server's time limits.
const SEQUENCES_AT_ONCE: usize = 8;
/// Looks at a fresh server, so nothing else may have run.
const FIRST: &str = "bootstrap";

/// The answers of each sequence, in the corpus' order.
pub(crate) async fn run(which: &Which, corpus: &[Sequence]) -> Result<Vec<Vec<Normal>>> {
    let server = Server::start(which).await?;
    let (first, others): (Vec<&Sequence>, Vec<&Sequence>) = corpus.iter().partition(|sequence| sequence.name == FIRST);
    let mut out = Vec::new();
    for sequence in first {
        out.push((sequence.name.clone(), answers(&server, sequence).await?));
    }
    let running = stream::iter(others).map(|sequence| {
        let server = &server;
        async move { anyhow::Ok((sequence.name.clone(), answers(server, sequence).await?)) }
    });
    out.extend(running.buffered(SEQUENCES_AT_ONCE).try_collect::<Vec<_>>().await?);
    let place = |name: &str| corpus.iter().position(|sequence| sequence.name == name);
    out.sort_by_key(|(name, _)| place(name));
    Ok(out.into_iter().map(|(_, answers)| answers).collect())
}

async fn answers(server: &Server, sequence: &Sequence) -> Result<Vec<Normal>> {
    let mut client = server.connect().await?;
    let mut variables = sequence.variables.clone();
    let mut out = Vec::new();
    for step in &sequence.steps {
        let title = || format!("{}: {}", sequence.name, step.name);
        let request = request(step, &variables).with_context(title)?;
        if client.is_closed() {
            client = server.connect().await?;
        }
        // A watch that nobody reads on, a body that is too large and a token that is unknown end a connection.
        let apart = step.events.is_some() || step.padding > 0 || !step.user.is_empty();
        let answer = match apart {
            true => server.connect().await?.send(request, step.events).await,
            false => client.send(request, None).await,
        };
        let answer = answer.with_context(title)?;
        if !step.save.is_empty() {
            variables.insert(step.save.clone(), serde_json::from_slice(&answer.body).unwrap_or_default());
        }
        if step.setup {
            let text = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status.is_success(), "{}: {} {text}", title(), answer.status);
            continue;
        }
        out.push(normal::normal(&step.name, &answer, step.digest, step.events.is_some()));
    }
    Ok(out)
}

fn request(step: &Step, variables: &Map<String, Value>) -> Result<Request<Bytes>> {
    let send = template::text(&step.send, variables);
    let (method, path) = send.split_once(' ').context("a step sends METHOD PATH")?;
    let token = match step.user.as_str() {
        "" => ADMIN_TOKEN.to_owned(),
        "jane" => USER_TOKEN.to_owned(),
        token => template::text(token, variables),
    };
    let accept = if step.accept.is_empty() { "application/json" } else { &step.accept };
    let mut request = Request::builder().method(method).uri(path);
    let (body, form) = body(step, variables)?;
    let content_type = if step.content_type.is_empty() { form } else { &step.content_type };
    if !body.is_empty() && content_type != "none" {
        request = request.header("content-type", content_type);
    }
    if token != "none" {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in &step.headers {
        request = request.header(name, template::text(value.as_str().context("headers are texts")?, variables));
    }
    let request = request.header("accept", accept).header("user-agent", "differential/1.0");
    Ok(request.body(body)?)
}

fn body(step: &Step, variables: &Map<String, Value>) -> Result<(Bytes, &'static str)> {
    if let Some(text) = &step.text {
        let text = template::text(text, variables) + &" ".repeat(step.padding);
        return Ok((text.into(), "application/json"));
    }
    let Some(body) = &step.body else {
        return Ok((Bytes::new(), "application/json"));
    };
    let tree = template::value(body, variables);
    Ok(match step.form {
        Form::Json => (tree.to_string().into(), "application/json"),
        Form::Yaml => (serde_yaml_ng::to_string(&tree)?.into(), "application/yaml"),
        Form::Protobuf => (protobuf::encode_object(&tree)?.into(), "application/vnd.kubernetes.protobuf"),
    })
}
