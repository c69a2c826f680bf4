//! OpenAPI v2: all documents of v3 in one, in the older form. Which parameters stand beside the paths, and under which
//! names, is a fact of upstream's: their ends are hashes of its texts.

use std::collections::{BTreeMap, BTreeSet};

use api::schema::table;
use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::protobuf;
use super::text::Entries;
use super::{Document, build, document_paths};

/// The names of shared parameters without the first part, which is the parameter's own. Where one has several, the
/// last word says of what: a subresource, the resource that is proxied, or a method.
const SHARED: [(&str, &str, &str); 45] = [
    ("allowWatchBookmarks", "HC2hJt-J", ""),
    ("command", "Py3eQybp", ""),
    ("container", "1GeXxFDC", "log"),
    ("container", "_Q-EJ3nR", "attach"),
    ("container", "i5dOmRiM", "exec"),
    ("continue", "QfD61s0i", ""),
    ("fieldManager", "7c6nTn1T", "patch"),
    ("fieldManager", "Qy4HdaTW", ""),
    ("fieldSelector", "xIcQKXFG", ""),
    ("follow", "9OIXh_2R", ""),
    ("force", "tOGGb0Yi", ""),
    ("gracePeriodSeconds", "-K5HaBOS", ""),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "QbNkfIqj", ""),
    ("insecureSkipTLSVerifyBackend", "gM00jVbe", ""),
    ("labelSelector", "5Zw57w4C", ""),
    ("limit", "1NfNmdNH", ""),
    ("limitBytes", "zwd1RXuc", ""),
    ("namespace", "vgWSWtn3", ""),
    ("orphanDependents", "uRB25kX5", ""),
    ("path", "z6Ciiujn", "{path}"),
    ("path", "oPbzgLUj", "pods"),
    ("path", "QCf0eosM", "services"),
    ("path", "rFDtV0x9", "nodes"),
    ("ports", "91KROJmm", ""),
    ("pretty", "tJGM1-ng", ""),
    ("previous", "1jxDPu3y", ""),
    ("propagationPolicy", "6jk3prlO", ""),
    ("resourceVersion", "5WAnf1kx", ""),
    ("resourceVersionMatch", "t8XhRHeC", ""),
    ("sendInitialEvents", "rLXlEK_k", ""),
    ("shardSelector", "Kgyki_3_", ""),
    ("sinceSeconds", "vE2NLdnP", ""),
    ("stderr", "26jJhFUR", "attach"),
    ("stderr", "W_1TNlWc", "exec"),
    ("stdin", "PSzNhyUC", "exec"),
    ("stdin", "sEFnN3IS", "attach"),
    ("stdout", "-EZLRwV1", "exec"),
    ("stdout", "005YMKE6", "attach"),
    ("stream", "l-48cgXv", ""),
    ("tailLines", "9xQLWHMV", ""),
    ("timeoutSeconds", "yvYezaOC", ""),
    ("timestamps", "c17fW1w_", ""),
    ("tty", "g7MlET_l", "attach"),
    ("tty", "s0flW37O", "exec"),
    ("watch", "XNNPZGbK", ""),
];
/// Bodies that many operations take, by the type.
const BODIES: [(&str, &str); 2] = [("DeleteOptions", "body-2Y1dVQaQ"), ("Patch", "body-78PwaGsr")];
/// The order of media types.
const PRODUCED: [&str; 8] = [
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/jwk-set+json",
    "*/*",
];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Every group and version has these as kinds of its own, served or not.
const EVERYWHERE: [&str; 2] = ["DeleteOptions", "WatchEvent"];
/// Group versions whose types are not in the table, and such that only have types of their own.
const OLD: [(&str, &str); 2] = [("apiextensions.k8s.io", "v1beta1"), ("apiregistration.k8s.io", "v1beta1")];
const WITHOUT: [&str; 2] = ["meta.k8s.io", "apidiscovery.k8s.io"];

const META: &str = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.";

/// What is collected from the documents.
#[derive(Default)]
struct Whole {
    paths: BTreeMap<String, Value>,
    definitions: BTreeMap<String, Value>,
    parameters: BTreeMap<String, Value>,
}

/// The document.
pub(super) fn document() -> Document {
    let descriptions = Descriptions::read();
    let mut whole = Whole::default();
    for path in document_paths() {
        let Some(document) = build(&path, &descriptions) else { continue };
        let document = serde_json::from_slice(&document.bytes).expect("the documents are our own JSON");
        whole.add(&path, document);
    }
    let nested = |members: &BTreeMap<String, Value>| {
        let mut out = Entries::default();
        members.iter().for_each(|(name, member)| out.add(name, member));
        out
    };
    let mut out = Entries::default();
    out.add("swagger", &json!("2.0"));
    out.add("info", &super::info());
    out.nest("paths", &nested(&whole.paths));
    out.nest("definitions", &nested(&whole.definitions));
    out.nest("parameters", &nested(&whole.parameters));
    out.add("securityDefinitions", &super::security());
    out.add("security", &json!([{"BearerToken": []}]));
    Document::new(out)
}

/// The document's protobuf form, under the tag of its JSON.
pub(super) fn as_protobuf(document: &Document) -> Result<Document, protobuf::Error> {
    let whole = serde_json::from_slice(&document.bytes).expect("the document is our own JSON");
    Ok(Document { bytes: protobuf::encode(&whole)?.into(), hash: document.hash.clone() })
}

impl Whole {
    fn add(&mut self, of: &str, mut document: Value) {
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            for (name, schema) in schemas {
                self.definitions.entry(name).or_insert_with_key(|name| definition(name, schema));
            }
        }
        if let Value::Object(paths) = document["paths"].take() {
            for (path, item) in paths {
                let item = self.path_item(of, &path, item);
                self.paths.insert(path, item);
            }
        }
    }

    fn path_item(&mut self, of: &str, path: &str, item: Value) -> Value {
        let Value::Object(item) = item else { return item };
        let mut out = Map::new();
        for (name, value) in item {
            let value = match name.as_str() {
                "parameters" => self.parameters(path, "", value),
                method => self.operation(of, (path, method), value),
            };
            out.insert(name, value);
        }
        out.into()
    }

    fn operation(&mut self, of: &str, (path, method): (&str, &str), mut operation: Value) -> Value {
        let fields = api::meta::as_object_mut(&mut operation);
        let mut parameters: Vec<Value> = fields.remove("requestBody").map(|body| self.body(body)).into_iter().collect();
        if let Value::Array(more) = self.parameters(path, method, fields.remove("parameters").unwrap_or_default()) {
            parameters.extend(more);
        }
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), parameters.into());
        }
        let mut produced: BTreeSet<usize> = BTreeSet::new();
        for answer in fields.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            let Some(Value::Object(content)) = answer.as_object_mut().and_then(|answer| answer.remove("content"))
            else {
                continue;
            };
            produced
                .extend(PRODUCED.iter().enumerate().filter(|(_, kind)| content.contains_key(**kind)).map(|(at, _)| at));
            answer["schema"] = schema_of(content);
        }
        let produced: Vec<&str> = produced.into_iter().map(|at| PRODUCED[at]).collect();
        if let Some(consumed) = consumed(of, fields.get("x-kubernetes-action"), &produced) {
            fields.insert("consumes".to_owned(), json!(consumed));
        }
        fields.insert("produces".to_owned(), json!(produced));
        fields.insert("schemes".to_owned(), json!(["https"]));
        operation
    }

    /// A body is a parameter too.
    fn body(&mut self, mut body: Value) -> Value {
        let Value::Object(content) = body["content"].take() else { return body };
        let schema = schema_of(content);
        let of = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(META)).unwrap_or_default();
        let shared = BODIES.iter().find(|(name, _)| *name == of).map(|(_, key)| (*key).to_owned());
        let mut out = json!({"in": "body", "name": "body", "schema": schema});
        if body["required"] == true {
            out["required"] = json!(true);
        }
        match shared {
            Some(key) => self.share(key, out),
            None => out,
        }
    }

    fn parameters(&mut self, path: &str, method: &str, list: Value) -> Value {
        let Value::Array(list) = list else { return list };
        list.into_iter().map(|parameter| self.parameter(path, method, parameter)).collect()
    }

    fn parameter(&mut self, path: &str, method: &str, mut parameter: Value) -> Value {
        let fields = api::meta::as_object_mut(&mut parameter);
        if let Some(Value::Object(schema)) = fields.remove("schema") {
            fields.extend(schema);
        }
        match shared_name(path, method, &parameter) {
            Some(key) => self.share(key, parameter),
            None => parameter,
        }
    }

    fn share(&mut self, key: String, parameter: Value) -> Value {
        let reference = json!({"$ref": format!("#/parameters/{key}")});
        self.parameters.entry(key).or_insert(parameter);
        reference
    }
}

fn shared_name(path: &str, method: &str, parameter: &Value) -> Option<String> {
    let name = parameter["name"].as_str()?;
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |of: &str| match (name, of) {
        (_, "") => true,
        ("path", "{path}") => parameter["in"] == "path",
        ("path", of) => parameter["in"] == "query" && segments.contains(&of),
        ("fieldManager", of) => method == of,
        (_, of) => segments.last() == Some(&of),
    };
    let found = SHARED.iter().find(|(shared, _, of)| *shared == name && fits(of));
    found.map(|(name, end, _)| format!("{name}-{end}"))
}

/// What an operation reads.
fn consumed<'a>(of: &str, action: Option<&Value>, produced: &[&'a str]) -> Option<Vec<&'a str>> {
    match (of, action.and_then(Value::as_str)) {
        (super::OPENID_CONFIGURATION | super::KEY_SET, _) => None,
        (_, Some("patch")) => Some(PATCHES.to_vec()),
        (_, Some(_)) => Some(vec!["*/*"]),
        // A document is read in the forms in which it is written.
        (_, None) => Some(produced.to_vec()),
    }
}

/// All media types have one schema.
fn schema_of(content: Map<String, Value>) -> Value {
    let schema = content.into_iter().next().map(|(_, mut entry)| entry["schema"].take());
    schema.map(older).unwrap_or_default()
}

fn definition(name: &str, schema: Value) -> Value {
    let mut schema = older(schema);
    let kind = name.rsplit('.').next().unwrap_or_default();
    if let Some(kinds) = schema.get_mut("x-kubernetes-group-version-kind")
        && EVERYWHERE.contains(&kind)
    {
        *kinds = everywhere(kind);
    }
    schema
}

fn everywhere(kind: &str) -> Value {
    let known = table().types().iter().flat_map(|of| of.kinds()).map(|[group, version, _]| (group, version));
    let all: BTreeSet<(&str, &str)> = known.filter(|(group, _)| !WITHOUT.contains(group)).chain(OLD).collect();
    all.into_iter().map(|(group, version)| json!({"group": group, "version": version, "kind": kind})).collect()
}

/// A schema in the older form: no defaults, no alternatives, and a reference beside its description.
fn older(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let mut out = Map::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("default", _) => {}
            ("oneOf", _) => drop(out.insert("type".to_owned(), json!("string"))),
            ("allOf", Value::Array(parts)) => {
                for part in parts {
                    out.append(api::meta::as_object_mut(&mut older(part)));
                }
            }
            ("$ref", Value::String(reference)) => {
                drop(out.insert(name, reference.replace("#/components/schemas/", "#/definitions/").into()));
            }
            ("properties", Value::Object(properties)) => {
                let properties: Map<_, _> =
                    properties.into_iter().map(|(name, schema)| (name, older(schema))).collect();
                out.insert(name, properties.into());
            }
            ("items" | "additionalProperties", value) => drop(out.insert(name, older(value))),
            (_, value) => drop(out.insert(name, value)),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_refers_to_nothing_else() {
        let whole: Value = serde_json::from_slice(&document().bytes).unwrap();
        let mut open = vec![&whole];
        let mut seen = 0;
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                assert!(whole.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
                seen += 1;
            }
            match value {
                Value::Object(fields) => open.extend(fields.values()),
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(seen > 5000, "{seen}");
        assert_eq!(whole["parameters"].as_object().unwrap().len(), SHARED.len() + BODIES.len());
    }

    #[test]
    fn schemas_lose_what_the_older_form_has_not() {
        let newer = json!({"type": "object", "default": {}, "properties": {
            "default": {"allOf": [{"$ref": "#/components/schemas/A"}], "description": "d", "default": {}},
            "list": {"type": "array", "items": {"$ref": "#/components/schemas/B", "default": ""}},
            "amount": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        }});
        let expected = json!({"type": "object", "properties": {
            "default": {"$ref": "#/definitions/A", "description": "d"},
            "list": {"type": "array", "items": {"$ref": "#/definitions/B"}},
            "amount": {"format": "int-or-string", "type": "string"},
        }});
        assert_eq!(older(newer), expected);
    }

    #[test]
    fn parameters_of_one_name_are_told_apart_by_where_they_stand() {
        let query = |name: &str| json!({"name": name, "in": "query"});
        let name =
            |path: &str, method: &str, parameter: &Value| shared_name(path, method, parameter).unwrap_or_default();
        assert_eq!(name("/a/{name}/exec", "", &query("tty")), "tty-s0flW37O");
        assert_eq!(name("/a/{name}/attach", "", &query("tty")), "tty-g7MlET_l");
        assert_eq!(name("/a", "patch", &query("fieldManager")), "fieldManager-7c6nTn1T");
        assert_eq!(name("/a", "put", &query("fieldManager")), "fieldManager-Qy4HdaTW");
        let proxy = "/api/v1/nodes/{name}/proxy/{path}";
        assert_eq!(name(proxy, "", &query("path")), "path-rFDtV0x9");
        assert_eq!(name(proxy, "", &json!({"name": "path", "in": "path"})), "path-z6Ciiujn");
        assert_eq!(name("/a", "put", &query("dryRun")), "");
    }
}
