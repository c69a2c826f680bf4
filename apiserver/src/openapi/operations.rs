//! Operations: one verb on one path.

use serde_json::{Map, Value, json};

/// A query or path parameter with its JSON type.
pub(super) type Parameter = (String, &'static str, &'static str);

const LIST: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: [(&str, &str); 3] = [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const OBJECT_TYPES: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const STREAM_TYPES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// `apps`, `rbacAuthorization`, `core`: the tag of a group.
pub(super) fn group_tag(group: &str) -> String {
    let word = group_word(group);
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// `Apps`, `RbacAuthorization`, `Core`: the group's part of operation ids.
pub(super) fn group_word(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => group.trim_end_matches(".k8s.io").split('.').map(capitalized).collect(),
    }
}

/// The word with a capital letter first.
pub(super) fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// One operation while it is put together.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) parameters: Vec<Parameter>,
    body: Map<String, Value>,
}

impl Operation {
    pub(super) fn new(method: &'static str, tag: &str, id: String) -> Self {
        let mut body = Map::new();
        body.insert("tags".to_owned(), json!([tag]));
        body.insert("operationId".to_owned(), json!(id));
        body.insert("responses".to_owned(), json!({"401": {"description": "Unauthorized"}}));
        Self { method, parameters: Vec::new(), body }
    }

    /// The action and the kind it is about.
    pub(super) fn about(mut self, action: &str, [group, version, kind]: [&str; 3]) -> Self {
        self.body.insert("x-kubernetes-action".to_owned(), json!(action));
        let kind = json!({"group": group, "version": version, "kind": kind});
        self.body.insert("x-kubernetes-group-version-kind".to_owned(), kind);
        self
    }

    pub(super) fn list_parameters(self) -> Self {
        self.query(&LIST)
    }

    pub(super) fn write_parameters(self) -> Self {
        self.query(&WRITE)
    }

    pub(super) fn patch_parameters(self) -> Self {
        self.query(&WRITE).query(&[("force", "boolean")])
    }

    pub(super) fn delete_parameters(self) -> Self {
        self.query(&DELETE)
    }

    pub(super) fn delete_collection_parameters(self) -> Self {
        let selection: Vec<_> =
            LIST.into_iter().filter(|(name, _)| !matches!(*name, "allowWatchBookmarks" | "watch")).collect();
        self.query(&DELETE).query(&selection)
    }

    pub(super) fn query(mut self, parameters: &[(&str, &'static str)]) -> Self {
        self.parameters.extend(parameters.iter().map(|(name, kind)| ((*name).to_owned(), "query", *kind)));
        self
    }

    /// A request body of any media type.
    pub(super) fn body(self, schema: Value, required: bool) -> Self {
        self.bodies(&["*/*"], schema, required)
    }

    pub(super) fn bodies(mut self, types: &[&str], schema: Value, required: bool) -> Self {
        let mut body = json!({"content": content(types, schema)});
        if required {
            body["required"] = json!(true);
        }
        self.body.insert("requestBody".to_owned(), body);
        self
    }

    /// The given codes answer an object.
    pub(super) fn answers(self, codes: &[&str], schema: Value) -> Self {
        self.answers_as(codes, &OBJECT_TYPES, schema)
    }

    /// 200 answers a list or a stream of events.
    pub(super) fn streams(self, schema: Value) -> Self {
        let types: Vec<&str> = OBJECT_TYPES.into_iter().chain(STREAM_TYPES).collect();
        self.answers_as(&["200"], &types, schema)
    }

    pub(super) fn answers_as(mut self, codes: &[&str], types: &[&str], schema: Value) -> Self {
        for code in codes {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let answer = json!({"description": description, "content": content(types, schema.clone())});
            self.body["responses"][*code] = answer;
        }
        self
    }
}

fn content(types: &[&str], schema: Value) -> Value {
    types.iter().map(|name| ((*name).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

/// A path's entry: parameters that all its operations share stand once, above them.
pub(super) fn path_item(in_path: &[Parameter], operations: Vec<Operation>) -> Value {
    let shared: Vec<Parameter> = match operations.split_first() {
        Some((first, rest)) => {
            let everywhere = |one: &&Parameter| rest.iter().all(|other| other.parameters.contains(one));
            first.parameters.iter().filter(everywhere).cloned().collect()
        }
        None => Vec::new(),
    };
    let mut item = Map::new();
    for mut operation in operations {
        operation.parameters.retain(|one| !shared.contains(one));
        if !operation.parameters.is_empty() {
            operation.body.insert("parameters".to_owned(), written(operation.parameters));
        }
        item.insert(operation.method.to_owned(), Value::Object(operation.body));
    }
    let parameters: Vec<Parameter> = in_path.iter().cloned().chain(shared).collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), written(parameters));
    }
    Value::Object(item)
}

fn written(mut parameters: Vec<Parameter>) -> Value {
    parameters.sort();
    let one = |(name, place, kind): Parameter| {
        let mut out = json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}});
        if place == "path" {
            out["required"] = json!(true);
        }
        out
    };
    parameters.into_iter().map(one).collect()
}
