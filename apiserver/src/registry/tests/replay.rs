//! The steps of `conformance/registry`, compared with what upstream's kube-apiserver answered.

use serde_json::json;

use super::*;

const RECORDED: &str = include_str!("recorded.json");
/// Steps whose answers still differ, by what is sent; may only shrink.
const GAPS: &str = include_str!("gaps.txt");

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

/// Takes out of an answer what differs from run to run.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for volatile in ["managedFields", "uid", "resourceVersion"] {
                fields.remove(volatile);
            }
            if let Some(token) = fields.get_mut("continue") {
                *token = json!("TOKEN");
            }
            fields.values_mut().for_each(normalise);
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
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
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let bare = word.trim_matches(|c: char| "(),.\"".contains(c)).to_owned();
        let numbered = ["current", "record"].iter().any(|word| text.contains(word));
        if bare.starts_with("\\\"Bad_") || bare.starts_with("Bad_") {
            *word = "GENERATED".to_owned();
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

#[tokio::test]
async fn answers_are_upstreams() {
    let server = server().await;
    let steps: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let mut differing = Vec::new();
    let mut shown = String::new();
    for step in &steps {
        let headers = step["headers"].as_object().into_iter().flatten();
        let headers: Vec<(&str, &str)> = headers.map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let text = step["text"].as_str().map(str::to_owned);
        let body = text.or_else(|| step.get("body").map(Value::to_string)).unwrap_or_default();
        let word = step["verb"].as_str().unwrap();
        let answer = server.send(verb(word), step["path"].as_str().unwrap(), &headers, &body).await;
        let (mut ours, mut theirs) = (answer.body, step["answer"].clone());
        normalise(&mut ours);
        normalise(&mut theirs);
        let code = step["code"].as_u64().unwrap();
        if u64::from(answer.code) != code || ours != theirs {
            let title = title(step);
            shown.push_str(&format!("{title}\n  upstream {code} {theirs}\n  ours     {} {ours}\n", answer.code));
            differing.push(title);
        }
    }
    let gaps: Vec<&str> = GAPS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let new: Vec<&String> = differing.iter().filter(|title| !gaps.contains(&title.as_str())).collect();
    let closed: Vec<&&str> = gaps.iter().filter(|gap| !differing.iter().any(|title| title == *gap)).collect();
    assert!(new.is_empty(), "{shown}\n{} new: {new:#?}", new.len());
    assert!(closed.is_empty(), "answered as upstream by now, take them out of gaps.txt: {closed:#?}");
}
