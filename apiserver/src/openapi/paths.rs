//! The paths of a document, from the resources of a group and version.

use api::patch::PatchType;
use api::schema::{Resource, Shape, Subresource, Version, table};
use serde_json::{Value, json};

use super::operations::{Operation, Parameter, capitalized, group_tag, group_word, path_item};
use super::schemas::Components;
use super::text::Entries;

const PATCHES: [PatchType; 4] = [PatchType::Apply, PatchType::Json, PatchType::Merge, PatchType::Strategic];
/// A proxied path takes every method.
const ALL_METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// `/version`.
pub(super) fn version(components: &mut Components) -> Entries {
    let operation = Operation::new("get", "version", "getCodeVersion".to_owned());
    single("/version/", operation.answers_as(&["200"], &["application/json"], components.version()))
}

/// A document about the keys of service accounts' tokens.
pub(super) fn tokens(path: &str, tag: &str, id: &str, media_type: &str) -> Entries {
    let operation = Operation::new("get", tag, id.to_owned());
    single(&format!("/{path}/"), operation.answers_as(&["200"], &[media_type], json!({"type": "string"})))
}

/// A document of discovery with one path.
pub(super) fn discovery(path: &str, tag: &str, id: &str, kind: &str, components: &mut Components) -> Entries {
    let operation = Operation::new("get", tag, id.to_owned()).answers(&["200"], components.meta(kind));
    single(&format!("/{path}/"), operation)
}

fn single(path: &str, operation: Operation) -> Entries {
    let mut out = Entries::default();
    out.add(path, &path_item(&[], vec![operation]));
    out
}

/// Every path of a group and version.
pub(super) fn resources(version: &Version, group: &str, components: &mut Components) -> Entries {
    let root = match group {
        "" => format!("/api/{}", version.version),
        group => format!("/apis/{group}/{}", version.version),
    };
    let tag = format!("{}_{}", group_tag(group), version.version);
    let word = format!("{}{}", group_word(group), capitalized(version.version));
    let mut out = Entries::default();
    let id = format!("get{word}APIResources");
    let operation = Operation::new("get", &tag, id).answers(&["200"], components.meta("APIResourceList"));
    out.add(&format!("{root}/"), &path_item(&[], vec![operation]));
    for resource in &version.resources {
        Writer { root: &root, tag: &tag, word: &word, resource, components, out: &mut out }.write();
    }
    out
}

struct Writer<'a> {
    root: &'a str,
    tag: &'a str,
    word: &'a str,
    resource: &'a Resource,
    components: &'a mut Components,
    out: &'a mut Entries,
}

impl Writer<'_> {
    fn write(mut self) {
        let collection = self.collection_operations();
        let scope = self.scope();
        let plural = self.resource.name;
        if !collection.is_empty() {
            self.add(format!("{scope}/{plural}"), &[], true, collection);
        }
        let schema = self.own_schema();
        let single = self.object_operations("", schema, self.own_kind(), &self.resource.verbs);
        if !single.is_empty() {
            self.add(format!("{scope}/{plural}/{{name}}"), &[name()], true, single);
        }
        for subresource in &self.resource.subresources {
            self.subresource(subresource);
        }
        if self.resource.has_verb("watch") {
            self.watch_paths();
        }
        if self.resource.namespaced && self.resource.has_verb("list") {
            let list = self.list(format!("list{}{}ForAllNamespaces", self.word, self.resource.kind));
            let path = format!("{}/{plural}", self.root);
            self.out.add(&path, &path_item(&[], vec![list.query(&[("pretty", "string")])]));
        }
    }

    fn scope(&self) -> String {
        let namespaces = if self.resource.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{namespaces}", self.root)
    }

    /// Adds a path with the parameters that its text names.
    fn add(&mut self, path: String, more: &[Parameter], pretty: bool, operations: Vec<Operation>) {
        let mut parameters = more.to_vec();
        if path.contains("{namespace}") {
            parameters.push(("namespace".to_owned(), "path", "string"));
        }
        if pretty {
            parameters.push(("pretty".to_owned(), "query", "string"));
        }
        self.out.add(&path, &path_item(&parameters, operations));
    }

    fn own_kind(&self) -> [&'static str; 3] {
        let gvk = self.resource.response_kind;
        match gvk.version {
            "" => [self.resource.group, self.resource.version, gvk.kind],
            _ => [gvk.group, gvk.version, gvk.kind],
        }
    }

    fn own_schema(&mut self) -> Value {
        self.resource.type_id.map_or_else(|| json!({"type": "object"}), |id| self.components.reference(id))
    }

    fn list_schema(&mut self) -> Value {
        let resource = self.resource;
        let id = table().type_of(resource.group, resource.version, resource.list_kind);
        id.map_or_else(|| json!({"type": "object"}), |id| self.components.reference(id))
    }

    /// An operation id: verb, group and version, scope, kind, what follows.
    fn id(&self, verb: &str, rest: &str) -> String {
        let scope = if self.resource.namespaced { "Namespaced" } else { "" };
        format!("{verb}{}{scope}{}{rest}", self.word, self.resource.kind)
    }

    fn list(&mut self, id: String) -> Operation {
        let schema = self.list_schema();
        Operation::new("get", self.tag, id).about("list", self.own_kind()).list_parameters().streams(schema)
    }

    fn collection_operations(&mut self) -> Vec<Operation> {
        let mut out = Vec::new();
        if self.resource.has_verb("list") {
            let id = self.id("list", "");
            out.push(self.list(id));
        }
        if self.resource.has_verb("create") {
            let (schema, kind) = (self.own_schema(), self.own_kind());
            out.push(self.create("", schema, kind));
        }
        if self.resource.has_verb("deletecollection") {
            let scope = if self.resource.namespaced { "Namespaced" } else { "" };
            let id = format!("delete{}Collection{scope}{}", self.word, self.resource.kind);
            let operation = Operation::new("delete", self.tag, id).about("deletecollection", self.own_kind());
            let options = self.components.meta("DeleteOptions");
            let status = self.components.meta("Status");
            out.push(operation.delete_collection_parameters().body(options, false).answers(&["200"], status));
        }
        out
    }

    fn create(&mut self, rest: &str, schema: Value, kind: [&str; 3]) -> Operation {
        Operation::new("post", self.tag, self.id("create", rest))
            .about("post", kind)
            .write_parameters()
            .body(schema.clone(), true)
            .answers(&["200", "201", "202"], schema)
    }

    fn object_operations(&mut self, rest: &str, schema: Value, kind: [&str; 3], verbs: &[&str]) -> Vec<Operation> {
        let mut out = Vec::new();
        let start = |method, verb, action| Operation::new(method, self.tag, self.id(verb, rest)).about(action, kind);
        if verbs.contains(&"get") {
            out.push(start("get", "read", "get").answers(&["200"], schema.clone()));
        }
        if verbs.contains(&"update") {
            let operation = start("put", "replace", "put").write_parameters().body(schema.clone(), true);
            out.push(operation.answers(&["200", "201"], schema.clone()));
        }
        if verbs.contains(&"delete") {
            let operation = start("delete", "delete", "delete").delete_parameters();
            let answer = match self.resource.returns_deleted {
                true => schema.clone(),
                false => self.components.meta("Status"),
            };
            let options = self.components.meta("DeleteOptions");
            out.push(operation.body(options, false).answers(&["200", "202"], answer));
        }
        if verbs.contains(&"patch") {
            let operation =
                Operation::new("patch", self.tag, self.id("patch", rest)).about("patch", kind).patch_parameters();
            let patch = self.components.patch();
            let operation = operation.bodies(&PATCHES.map(PatchType::content_type), patch, true);
            out.push(operation.answers(&["200", "201"], schema));
        }
        out
    }

    fn subresource(&mut self, sub: &Subresource) {
        if sub.kind.ends_with("Options") {
            return self.connect(sub);
        }
        let rest = capitalized(sub.name);
        let kind = [sub.group, sub.version, sub.kind];
        let schema = sub.type_id.map_or_else(|| json!({"type": "object"}), |id| self.components.reference(id));
        let mut operations = match sub.name {
            "log" => vec![self.log(&rest, kind)],
            _ => self.object_operations(&rest, schema.clone(), kind, &sub.verbs),
        };
        if sub.verbs.contains(&"create") {
            operations.push(self.create(&rest, schema, kind));
        }
        let path = format!("{}/{}/{{name}}/{}", self.scope(), self.resource.name, sub.name);
        self.add(path, &[name()], true, operations);
    }

    fn log(&self, rest: &str, kind: [&str; 3]) -> Operation {
        let types = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml", "text/plain"];
        let mut parameters = option_parameters("PodLogOptions");
        parameters.retain(|(name, _)| *name != "sinceTime");
        Operation::new("get", self.tag, self.id("read", rest)).about("get", kind).query(&parameters).answers_as(
            &["200"],
            &types,
            json!({"type": "string"}),
        )
    }

    /// A stream or a proxied path.
    fn connect(&mut self, sub: &Subresource) {
        let proxied = sub.name == "proxy";
        let methods: &[&'static str] = if proxied { &ALL_METHODS } else { &["get", "post"] };
        let parameters = option_parameters(sub.kind);
        let base = format!("{}/{}/{{name}}/{}", self.scope(), self.resource.name, sub.name);
        let scope = if self.resource.namespaced { "Namespaced" } else { "" };
        for (path, tail) in [(base.clone(), ""), (format!("{base}/{{path}}"), "WithPath")] {
            if !tail.is_empty() && !proxied {
                continue;
            }
            let operation = |method: &&'static str| {
                let verb = capitalized(method);
                let id =
                    format!("connect{}{verb}{scope}{}{}{tail}", self.word, self.resource.kind, capitalized(sub.name));
                Operation::new(method, self.tag, id)
                    .about("connect", [sub.group, sub.version, sub.kind])
                    .query(&parameters)
                    .answers_as(&["200"], &["*/*"], json!({"type": "string"}))
            };
            let operations = methods.iter().map(operation).collect();
            let mut in_path = vec![name()];
            if !tail.is_empty() {
                in_path.push(("path".to_owned(), "path", "string"));
            }
            self.add(path, &in_path, false, operations);
        }
    }

    fn watch_paths(&mut self) {
        let plural = self.resource.name;
        let namespaced = self.resource.namespaced;
        let scope = if namespaced { "/namespaces/{namespace}" } else { "" };
        let base = format!("{}/watch{scope}/{plural}", self.root);
        let mut paths = vec![(base.clone(), self.id("watch", "List"), "watchlist", false)];
        paths.push((format!("{base}/{{name}}"), self.id("watch", ""), "watch", true));
        if namespaced {
            let id = format!("watch{}{}ListForAllNamespaces", self.word, self.resource.kind);
            paths.push((format!("{}/watch/{plural}", self.root), id, "watchlist", false));
        }
        for (path, id, action, named) in paths {
            let event = self.components.meta("WatchEvent");
            let operation = Operation::new("get", self.tag, id).about(action, self.own_kind());
            let in_path = if named { vec![name()] } else { Vec::new() };
            self.add(path, &in_path, true, vec![operation.list_parameters().streams(event)]);
        }
    }
}

fn name() -> Parameter {
    ("name".to_owned(), "path", "string")
}

/// The query parameters that an options kind stands for.
fn option_parameters(kind: &str) -> Vec<(&'static str, &'static str)> {
    let Some(id) = table().type_of("", "v1", kind) else { return Vec::new() };
    let fields = table().get(id).fields.iter().filter(|field| !matches!(field.name, "apiVersion" | "kind"));
    let kind_of = |shape: &Shape| match shape {
        Shape::Bool => "boolean",
        Shape::Int(_) => "integer",
        Shape::List { item, .. } if matches!(**item, Shape::Int(_)) => "integer",
        _ => "string",
    };
    fields.map(|field| (field.name, kind_of(&field.shape))).collect()
}
