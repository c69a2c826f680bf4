//! An answer without what differs from run to run. Every rule has a name here, and there are no others:
//!
//! - **lengths**: the headers that say when, how long and on which connection are left out;
//! - **uids**, **times**, **days**, **revisions**, **continue tokens**: a word in angle brackets instead;
//! - **ages**: a table's `5s`;
//! - **generated**: names made from `generateName`, volumes of service-account tokens, tokens themselves, certificates;
//! - **addresses** and **ports** that the server chose: those that are asked for lie in 10.96.7.0/24 and from 32700 to 32719;
//! - **opaque**: entity tags and the hashes in the addresses of documents, which say only whether something changed;
//! - **walks**: upstream walks maps in random order, so causes and rules are sorted, the message of several is cut short,
//!   and which of several bindings allows is left out;
//! - **seconds**: upstream sorts managers by the second in which they wrote, so they are sorted without it;
//! - **shown**: a whole object in a message, or the difference of two, which upstream prints with the names and in the
//!   order of its internal Go fields, and places in its source;
//! - **digests**: prose of table columns, and with `digest` every member of a large collection, by a hash;
//! - **prose**: the descriptions in OpenAPI documents, ours being another wording, are left out of that hash;
//! - **build**: what `/version` says of the build.

use std::{collections::BTreeMap, sync::OnceLock};

use api::{GroupVersionKind, protobuf};
use http::HeaderMap;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::client::Answer;

/// An answer in the form that is recorded and compared.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Normal {
    pub(crate) name: String,
    pub(crate) status: u16,
    /// Where they are not as usual; null for a usual one that is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) body: Value,
}

/// Headers that nearly every answer has.
const USUAL: &[(&str, &str)] = &[
    ("audit-id", "<uid>"),
    ("cache-control", "no-cache, private"),
    ("content-type", "application/json"),
    ("x-kubernetes-pf-flowschema-uid", "<uid>"),
    ("x-kubernetes-pf-prioritylevel-uid", "<uid>"),
];
const LENGTHS: &[&str] = &["date", "content-length", "connection", "transfer-encoding"];
const BUILD: &[&str] = &["buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"];

/// Makes the comparable form of an answer.
pub(crate) fn normal(name: &str, answer: &Answer, digest: bool, events: bool) -> Normal {
    let mut body = tree(answer, events);
    steady(&mut body, "");
    if digest {
        digest_members(&mut body);
    }
    Normal { name: name.to_owned(), status: answer.status.as_u16(), headers: headers(&answer.headers), body }
}

fn headers(all: &HeaderMap) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for name in all.keys().filter(|name| !LENGTHS.contains(&name.as_str())) {
        if name == "etag" {
            out.insert(name.to_string(), "<hash>".to_owned());
            continue;
        }
        let values: Vec<String> =
            all.get_all(name).iter().map(|value| text(&String::from_utf8_lossy(value.as_bytes()))).collect();
        out.insert(name.to_string(), values.join(", "));
    }
    let missing = USUAL.iter().filter(|(name, _)| !out.contains_key(*name));
    let missing: Vec<(String, Value)> = missing.map(|(name, _)| ((*name).to_owned(), Value::Null)).collect();
    let unusual = out.into_iter().filter(|(name, value)| !USUAL.contains(&(name.as_str(), value.as_str())));
    unusual.map(|(name, value)| (name, Value::String(value))).chain(missing).collect()
}

/// The body as a tree, whatever form it has; a text when it has none.
fn tree(answer: &Answer, events: bool) -> Value {
    let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    if answer.body.is_empty() {
        return Value::Null;
    }
    if events && answer.status.is_success() {
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let event = |line: &[u8]| serde_json::from_slice(line).unwrap_or_else(|_| String::from_utf8_lossy(line).into());
        let events: Vec<Value> = lines.map(event).collect();
        return Value::Object(Map::from_iter([("events".to_owned(), events.into())]));
    }
    if content_type.contains("yaml") {
        return serde_yaml_ng::from_slice(&answer.body).unwrap_or_else(|_| text().into());
    }
    if content_type.starts_with("application/vnd.kubernetes.protobuf") {
        let any = GroupVersionKind::new("", "", "");
        let decoded = protobuf::decode_body(&answer.body, &any).map(|body| body.value);
        return decoded.unwrap_or_else(|status| format!("undecodable: {}", status.message).into());
    }
    if content_type.contains("protobuf") {
        return digest(&answer.body).into();
    }
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| text().into())
}

fn steady(value: &mut Value, key: &str) {
    match value {
        Value::Object(fields) => steady_object(fields),
        Value::Array(items) if key == "cells" => items.iter_mut().for_each(cell),
        Value::Array(items) => items.iter_mut().for_each(|item| steady(item, key)),
        Value::String(string) => *string = steady_text(string, key),
        Value::Number(number) if ["nodePort", "healthCheckNodePort"].contains(&key) => {
            let asked = number.as_u64().is_none_or(|port| port == 0 || (32_700..32_720).contains(&port));
            if !asked {
                *value = "<port>".into();
            }
        }
        // The server's own.
        Value::Number(number) if ["port", "targetPort"].contains(&key) && number.as_u64() >= Some(32_768) => {
            *value = "<port>".into();
        }
        _ => {}
    }
}

fn steady_object(fields: &mut Map<String, Value>) {
    if fields.contains_key("gitVersion") {
        fields.retain(|name, _| !BUILD.contains(&name.as_str()));
    }
    if fields.get("priority").is_some_and(Value::is_number)
        && let Some(Value::String(prose)) = fields.get_mut("description")
    {
        *prose = digest(prose.as_bytes());
    }
    *fields = std::mem::take(fields).into_iter().map(|(name, field)| (text(&name), field)).collect();
    for (name, field) in fields.iter_mut() {
        steady(field, name);
    }
    for name in ["managedFields", "nonResourceRules"] {
        if let Some(items) = fields.get_mut(name).and_then(Value::as_array_mut) {
            items.sort_by_cached_key(ToString::to_string);
        }
    }
    let several = fields.get("causes").and_then(Value::as_array).is_some_and(|causes| causes.len() > 1);
    if let Some(causes) = fields.get_mut("causes").and_then(Value::as_array_mut) {
        causes.sort_by_cached_key(ToString::to_string);
    }
    let of_details = fields.get("details").and_then(|details| details["causes"].as_array());
    if (several || of_details.is_some_and(|causes| causes.len() > 1))
        && let Some(Value::String(message)) = fields.get_mut("message")
        && let Some(start) = message.find(": [")
    {
        message.truncate(start);
    }
}

fn steady_text(string: &str, key: &str) -> String {
    match key {
        "resourceVersion" if !["", "0"].contains(&string) => "<revision>".to_owned(),
        "continue" if !string.is_empty() => "<continue>".to_owned(),
        "since" if api::time::parse_day(string).is_some() => "<day>".to_owned(),
        "token" if string.matches('.').count() == 2 => "<token>".to_owned(),
        _ => text(string),
    }
}

fn cell(value: &mut Value) {
    match value {
        Value::String(string) if ages().is_match(string) => *value = "<age>".into(),
        other => steady(other, ""),
    }
}

fn ages() -> &'static Regex {
    static AGES: OnceLock<Regex> = OnceLock::new();
    AGES.get_or_init(|| Regex::new(r"^\d+(m?s|m\d*s?)$").expect("a constant pattern is valid"))
}

/// Replaces within a text.
fn text(string: &str) -> String {
    static PATTERNS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let all = [
            (r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----", "<certificate>"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"\b20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT\b", "<time>"),
            (r"current: \d+", "current: <revision>"),
            (r"(ResourceVersion in object meta: )\d+", "$1<revision>"),
            (r"(in the precondition \()\d\d+\)", "$1<revision>)"),
            (r"in record \(\d+\)", "in record (<revision>)"),
            (r"kube-api-access-[a-z0-9]{5}\b", "kube-api-access-<suffix>"),
            (r"\b(gen|Gen_|A b|Bad_|x{58})-?[a-z0-9]{5}\b", "$1-<suffix>"),
            (r"\b192\.0\.2\.1:\d{4,5}\b", "192.0.2.1:<port>"),
            (r"\bhash=[0-9A-F]+", "hash=<hash>"),
            (r"\b10\.96\.(?:[0-689]|\d\d+)\.\d+\b", "<address>"),
            (r#"Invalid value: "\{\\".*?\}": "#, "Invalid value: <object>: "),
            (r#"Invalid value: \{".*\}: field is immutable"#, "Invalid value: <object>: field is immutable"),
            (r"(?s)\n@@ .*", "\n<difference>"),
            (r#"(RBAC: allowed by ClusterRoleBinding )"[^"]*" of ClusterRole "[^"]*""#, "$1<any>"),
            (r#"in scheme "[^"]*""#, "in scheme <place>"),
        ];
        all.map(|(pattern, word)| (Regex::new(pattern).expect("a constant pattern is valid"), word)).into()
    });
    patterns.iter().fold(string.to_owned(), |text, (pattern, word)| pattern.replace_all(&text, *word).into_owned())
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("<digest {hex}>")
}

/// Every item of a list under its name, and every definition, parameter, path or schema of a document, by digest.
fn digest_members(body: &mut Value) {
    let Some(fields) = body.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(items)) = fields.get("items") {
        let named =
            items.iter().map(|item| (item_name(item), digest(without_managers(item).to_string().as_bytes()).into()));
        let named: Map<String, Value> = named.collect();
        fields.insert("items".to_owned(), named.into());
    }
    for collection in ["definitions", "parameters", "paths", "schemas", "securityDefinitions"] {
        if let Some(Value::Object(members)) = fields.get_mut(collection) {
            members.values_mut().for_each(|member| {
                without_prose(member);
                *member = digest(member.to_string().as_bytes()).into();
            });
        }
    }
    if let Some(components) = fields.get_mut("components") {
        digest_members(components);
    }
}

/// A description is a text; a property of that name is a schema.
fn without_prose(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            fields.retain(|name, field| name != "description" || !field.is_string());
            fields.values_mut().for_each(without_prose);
        }
        Value::Array(items) => items.iter_mut().for_each(without_prose),
        _ => {}
    }
}

/// Who manages which field is compared where objects are whole.
fn without_managers(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(meta) = item["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    item
}

fn item_name(item: &Value) -> String {
    let part = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
    match part("namespace") {
        namespace if namespace.is_empty() => part("name"),
        namespace => format!("{namespace}/{}", part("name")),
    }
}
