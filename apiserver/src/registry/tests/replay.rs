//! The steps of `conformance/registry`, compared with what upstream's kube-apiserver answered.

use serde_json::json;

use super::*;

fn verb(word: &str) -> Verb {
    match word {
        "get" => Verb::Get,
        "list" => Verb::List,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        other => panic!("unknown verb {other}"),
    }
}

/// Takes out what a controller inside upstream's server writes meanwhile: whether a flow schema's level exists.
fn drop_flow_status(fields: &mut api::Map<String, Value>) {
    if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
        entries.retain(|entry| entry["manager"] != "api-priority-and-fairness-config-consumer-v1");
    }
    if fields.get("kind").is_some_and(|kind| kind == "FlowSchema")
        && let Some(status) = fields.get_mut("status").and_then(Value::as_object_mut)
        && let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut)
    {
        conditions.retain(|condition| condition["type"] != "Dangling");
        if conditions.is_empty() {
            status.remove("conditions");
        }
    }
}

/// Takes out of an answer what differs from run to run, and managed fields where they were not recorded.
fn normalise(value: &mut Value, managed: bool) {
    match value {
        Value::Object(fields) => {
            for volatile in ["uid", "resourceVersion"] {
                fields.remove(volatile);
            }
            drop_flow_status(fields);
            if !managed {
                fields.remove("managedFields");
            }
            // Their order is that of their times.
            if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                let key =
                    |entry: &Value| ["operation", "manager", "apiVersion", "subresource"].map(|k| entry[k].to_string());
                entries.sort_by_cached_key(key);
            }
            if let Some(causes) = fields.get_mut("causes").and_then(Value::as_array_mut) {
                causes.sort_by_cached_key(Value::to_string);
            }
            if fields.contains_key("priority") {
                fields.remove("description");
            }
            // Upstream's row of an address has a cell for which there is no column.
            let columns = fields.get("columnDefinitions").and_then(Value::as_array).map_or(usize::MAX, Vec::len);
            for row in fields.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
                row["cells"].as_array_mut().into_iter().for_each(|cells| cells.truncate(columns));
            }
            if let Some(token) = fields.get_mut("continue") {
                *token = json!("TOKEN");
            }
            fields.values_mut().for_each(|value| normalise(value, managed));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| normalise(value, managed)),
        Value::String(text) => *text = steady(text),
        _ => {}
    }
}

fn steady(text: &str) -> String {
    // A patched document is shown in Go's order of fields, with managed fields: only what is said of it counts.
    if let (Some(start), Some(end)) = (text.find("Invalid value: \"{\\\"api"), text.rfind("}\": ")) {
        return format!("{}DOCUMENT{}", &text[..start], &text[end..]);
    }
    if api::time::parse(text).is_some() {
        return "TIME".to_owned();
    }
    // Addresses are given out at random; those that are asked for lie in 10.96.7.
    if text.starts_with("10.96.") && !text.starts_with("10.96.7.") {
        return "ADDRESS".to_owned();
    }
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let bare = word.trim_matches(|c: char| "(),.\"".contains(c)).to_owned();
        let numbered = ["current", "record"].iter().any(|word| text.contains(word));
        if bare.starts_with("\\\"Bad_") || bare.starts_with("Bad_") {
            *word = "GENERATED".to_owned();
            continue;
        }
        if let Some((key, _)) = bare.split_once("controller-uid=") {
            *word = format!("{key}controller-uid=X");
            continue;
        }
        let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
        if is_uid || (numbered && !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit())) {
            *word = word.replace(&bare, "X");
        }
        if bare.ends_with('s') && bare.trim_end_matches('s').parse::<u8>().is_ok() {
            *word = word.replace(&bare, "AGE");
        }
    }
    words.join(" ")
}

/// What was sent, in one line.
fn title(step: &Value) -> String {
    let sent = step.get("body").map(Value::to_string).or_else(|| step["text"].as_str().map(str::to_owned));
    let headers = step.get("headers").map(Value::to_string).unwrap_or_default();
    let (verb, path) = (step["verb"].as_str().unwrap(), step["path"].as_str().unwrap());
    format!("{verb} {path} {headers} {}", sent.unwrap_or_default()).replace('\n', "\\n").trim().to_owned()
}

/// Sends the steps and compares, but for those whose titles stand in `gaps`, which may only shrink.
async fn replay(recorded: &str, gaps: &str, managed: bool) {
    let server = server().await;
    let steps: Vec<Value> = serde_json::from_str(recorded).unwrap();
    let mut differing = Vec::new();
    let mut shown = String::new();
    for step in &steps {
        let answer = send(&server, step).await;
        let (mut ours, code) = (answer.body, u64::from(answer.code));
        let mut theirs = step["answer"].clone();
        normalise(&mut ours, managed);
        normalise(&mut theirs, managed);
        let expected = step["code"].as_u64().unwrap();
        let (said, mut warnings) = (warnings(step), answer.warnings);
        warnings.retain(|text| !is_notice(text));
        if code != expected || ours != theirs || warnings != said {
            let title = title(step);
            shown.push_str(&format!(
                "{title}\n  upstream {expected} {theirs} {said:?}\n  ours     {code} {ours} {warnings:?}\n"
            ));
            differing.push(title);
        }
    }
    let gaps: Vec<&str> = gaps.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let new: Vec<&String> = differing.iter().filter(|title| !gaps.contains(&title.as_str())).collect();
    let closed: Vec<&&str> = gaps.iter().filter(|gap| !differing.iter().any(|title| title == *gap)).collect();
    assert!(new.is_empty(), "{shown}\n{} new: {new:#?}", new.len());
    assert!(closed.is_empty(), "answered as upstream by now, take them out of the gaps: {closed:#?}");
}

/// True for what only we say: that nothing acts on a kind yet.
fn is_notice(warning: &str) -> bool {
    warning.contains(" are stored, but ")
}

/// The texts of the recorded `Warning` headers.
fn warnings(step: &Value) -> Vec<String> {
    let header = |line: &Value| {
        let text = line.as_str().unwrap().strip_prefix("299 - \"").unwrap().strip_suffix('"').unwrap();
        text.replace("\\\"", "\"").replace("\\\\", "\\")
    };
    step["warning"].as_array().into_iter().flatten().map(header).collect()
}

async fn send(server: &Server, step: &Value) -> Answer {
    let headers = step["headers"].as_object().into_iter().flatten();
    let headers: Vec<(&str, &str)> = headers.map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
    let text = step["text"].as_str().map(str::to_owned);
    let body = text.or_else(|| step.get("body").map(Value::to_string)).unwrap_or_default();
    let (verb, path) = (verb(step["verb"].as_str().unwrap()), step["path"].as_str().unwrap());
    server.send(verb, path, &headers, &body).await
}

#[tokio::test]
async fn answers_are_upstreams() {
    replay(include_str!("recorded.json"), include_str!("gaps.txt"), false).await;
}

#[tokio::test]
async fn every_kind_answers_as_upstream() {
    replay(include_str!("recorded-every.json"), include_str!("gaps-every.txt"), false).await;
}

#[tokio::test]
async fn ownership_is_upstreams() {
    replay(include_str!("recorded-apply.json"), include_str!("gaps-apply.txt"), true).await;
}
