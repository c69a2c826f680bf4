//! Malformed and invalid requests get upstream's answers, and nothing of a refused one is stored.
//!
//! `conformance/invalid/recorded.json` holds what upstream's server answered to the same requests in the same order.
//! Requests that are known to be answered otherwise stand in `conformance/invalid/known-gaps.txt`, a list that may
//! only shrink: the test fails for a difference that is not listed and for a listed one that is gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::server::{Answer, Running};

const RECORDED: &str = include_str!("../../../conformance/invalid/recorded.json");
const KNOWN_GAPS: &str = include_str!("../../../conformance/invalid/known-gaps.txt");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Step {
    name: String,
    method: String,
    path: String,
    content_type: String,
    accept: String,
    user: String,
    impersonate: String,
    body: String,
    padding: usize,
    setup: bool,
    expect: Expect,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Expect {
    code: u16,
    reason: String,
    message: String,
    details: Value,
    warnings: Vec<String>,
    text: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_get_upstreams_answers() {
    let server = Running::start().await;
    let masks = masks();
    let known: BTreeSet<&str> = KNOWN_GAPS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let steps: Vec<Step> = serde_json::from_str(RECORDED).unwrap();
    let (mut differing, mut report) = (BTreeSet::new(), Vec::new());
    for step in &steps {
        let (before, addresses) = (revision(&server).await, addresses(&server).await);
        let answer = send(&server, step).await;
        if step.setup {
            assert!(answer.code.is_success(), "{}: {}", step.name, String::from_utf8_lossy(&answer.body));
            continue;
        }
        if answer.code.as_u16() >= 400 && step.path.ends_with("/services") {
            // Upstream, too, holds an address with an object of its own while it looks at the service.
            assert_eq!(self::addresses(&server).await, addresses, "{} was refused and holds an address", step.name);
        } else if answer.code.as_u16() >= 400 {
            assert_eq!(revision(&server).await, before, "{} was refused and something was stored", step.name);
        }
        let got = read(&answer, &masks);
        if !same(&got, &step.expect) {
            differing.insert(step.name.as_str());
            if !known.contains(step.name.as_str()) {
                report.push(format!("{}\n  want {:?}\n  got  {got:?}", step.name, step.expect));
            }
        }
    }
    let gone: Vec<_> = known.difference(&differing).collect();
    assert!(report.is_empty(), "{} of {} differ:\n{}", report.len(), steps.len(), report.join("\n"));
    assert!(gone.is_empty(), "take these out of known-gaps.txt: {gone:?}");
}

/// Upstream walks maps in random order, so several causes may come in any.
fn same(got: &Expect, want: &Expect) -> bool {
    let causes = |expect: &Expect| {
        let mut causes: Vec<String> =
            expect.details["causes"].as_array().into_iter().flatten().map(Value::to_string).collect();
        causes.sort();
        causes
    };
    if causes(want).len() < 2 {
        return got == want;
    }
    let rest = |expect: &Expect| {
        let mut details = expect.details.clone();
        details["causes"] = Value::Null;
        let head = expect.message.split('[').next().unwrap_or_default().to_owned();
        (expect.code, expect.reason.clone(), head, details, expect.warnings.clone())
    };
    causes(got) == causes(want) && rest(got) == rest(want)
}

async fn send(server: &Running, step: &Step) -> Answer {
    let mut request = server.request(&step.method, &step.path, &step.user);
    for (name, value) in
        [("content-type", &step.content_type), ("accept", &step.accept), ("impersonate-user", &step.impersonate)]
    {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    let body = format!("{}{}", step.body, " ".repeat(step.padding));
    server.send(request, Bytes::from(body)).await
}

/// The store's revision, which every write raises.
async fn revision(server: &Running) -> String {
    let list = server.send(server.request("GET", "/api/v1/nodes", ""), Bytes::new()).await;
    list.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// The services, and the addresses that they hold.
async fn addresses(server: &Running) -> Vec<String> {
    let mut names = Vec::new();
    for path in ["/api/v1/services", "/apis/networking.k8s.io/v1/ipaddresses"] {
        let list = server.send(server.request("GET", path, ""), Bytes::new()).await.json();
        let items = list["items"].as_array().into_iter().flatten();
        names.extend(items.map(|item| item["metadata"]["name"].to_string()));
    }
    names
}

/// The recorder's replacements of what differs from run to run.
fn masks() -> Vec<(Regex, &'static str)> {
    let mask = |pattern: &str, word| (Regex::new(pattern).unwrap(), word);
    vec![
        mask("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        mask(r"current: \d+", "current: <revision>"),
        mask(r"in record \(\d+\)", "in record (<revision>)"),
        mask(r"20[1-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
        mask(r#"Invalid value: \\"\{\\\\\\"apiVersion.*?\}\\": "#, "Invalid value: <object>: "),
        mask(r#"in scheme \\"[^"]*\\""#, "in scheme <place>"),
        mask(r#"\\"A b[a-z0-9]{5}\\""#, r#"\"A b<suffix>\""#),
        mask(r#""A b[a-z0-9]{5}""#, r#""A b<suffix>""#),
        mask("default-token-[a-z0-9]+|kube-api-access-[a-z0-9]+", "<token volume>"),
    ]
}

fn read(answer: &Answer, masks: &[(Regex, &'static str)]) -> Expect {
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    for (pattern, word) in masks {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    let warnings = answer.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
    let mut out =
        Expect { code: answer.code.as_u16(), warnings: warnings.map(str::to_owned).collect(), ..Expect::default() };
    match serde_json::from_str::<Value>(&text) {
        Err(_) => out.text = text,
        Ok(status) if status["kind"] == "Status" && answer.code.as_u16() >= 300 => {
            let field = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
            out.reason = field("reason");
            out.message = field("message");
            out.details = status["details"].clone();
        }
        Ok(_) => {}
    }
    out
}
