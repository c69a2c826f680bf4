//! Component schemas: one for every type that a document's paths reach.

use std::collections::BTreeSet;

use api::schema::{Field, ListType, Shape, Type, TypeId, table};
use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::text::Entries;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const VERSION: &str = "apimachinery.pkg.version.Info";
/// What `/version` always says, and what it says of a server that plays an older one.
const ALWAYS: [&str; 9] =
    ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
const EMULATED: [&str; 4] = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];

/// The schemas that a document refers to, collected while its paths are written.
#[derive(Default)]
pub(super) struct Components {
    types: BTreeSet<TypeId>,
    scalars: BTreeSet<&'static str>,
    patch: bool,
    version: bool,
}

impl Components {
    /// A reference to a type, which joins the document with everything it reaches.
    pub(super) fn reference(&mut self, id: TypeId) -> Value {
        self.reach(id);
        reference(&format!("io.k8s.{}", table().get(id).id))
    }

    /// A reference to a type of `meta/v1`.
    pub(super) fn meta(&mut self, name: &str) -> Value {
        let id = table().type_by_id(&format!("{}{name}", META.trim_start_matches("io.k8s.")));
        self.reference(id.expect("the table has the types of meta/v1"))
    }

    /// A reference to the type that stands for every patch.
    pub(super) fn patch(&mut self) -> Value {
        self.patch = true;
        reference(&format!("{META}Patch"))
    }

    /// A reference to the type of `/version`, which is no kind.
    pub(super) fn version(&mut self) -> Value {
        self.version = true;
        reference(&format!("io.k8s.{VERSION}"))
    }

    /// True while nothing is referred to.
    pub(super) fn is_empty(&self) -> bool {
        self.types.is_empty() && self.scalars.is_empty() && !self.patch && !self.version
    }

    fn reach(&mut self, id: TypeId) {
        if !self.types.insert(id) {
            return;
        }
        for field in &table().get(id).fields {
            self.reach_shape(&field.shape);
        }
    }

    fn reach_shape(&mut self, shape: &Shape) {
        if let Some(item) = shape.item() {
            return self.reach_shape(item);
        }
        if let Shape::Ref(id) = shape {
            return self.reach(*id);
        }
        if let Some(name) = scalar_name(shape)
            && self.scalars.insert(name)
            && name.contains(".JSONSchemaPropsOr")
        {
            let props = name.trim_start_matches("io.k8s.").split("Or").next().unwrap_or_default();
            if let Some(id) = table().type_by_id(props) {
                self.reach(id);
            }
        }
    }

    /// The schemas, for the document of a group and version.
    pub(super) fn write(&self, group: &str, version: Option<&str>, descriptions: &Descriptions) -> Entries {
        let mut out = Entries::default();
        for id in &self.types {
            let of = table().get(*id);
            out.add(&format!("io.k8s.{}", of.id), &object(of, group, version, descriptions));
        }
        for name in &self.scalars {
            let (own, _) = descriptions.of(name.trim_start_matches("io.k8s."));
            out.add(name, &described(scalar_schema(name), own));
        }
        if self.patch {
            let (own, _) = descriptions.of(&format!("{}Patch", META.trim_start_matches("io.k8s.")));
            out.add(&format!("{META}Patch"), &described(json!({"type": "object"}), own));
        }
        if self.version {
            out.add(&format!("io.k8s.{VERSION}"), &version_info(descriptions));
        }
        out
    }
}

fn version_info(descriptions: &Descriptions) -> Value {
    let (own, mut texts) = descriptions.of(VERSION);
    let always = ALWAYS.map(|name| (name, json!({"type": "string", "default": ""})));
    let all = always.into_iter().chain(EMULATED.map(|name| (name, json!({"type": "string"}))));
    let properties: Map<String, Value> =
        all.map(|(name, schema)| (name.to_owned(), described(schema, texts.remove(name)))).collect();
    described(json!({"type": "object", "properties": properties, "required": ALWAYS}), own)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn described(mut schema: Value, description: Option<Value>) -> Value {
    if let Some(text) = description {
        schema["description"] = text;
    }
    schema
}

/// The document's name of a shape that writes its own JSON.
fn scalar_name(shape: &Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Shape::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Shape::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Shape::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Shape::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Shape::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        Shape::PropsOrArray => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        Shape::PropsOrBool => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        Shape::PropsOrStrings => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => return None,
    })
}

fn scalar_schema(name: &str) -> Value {
    match name.rsplit('.').next().unwrap_or(name) {
        "Quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "IntOrString" => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string"}),
        "FieldsV1" | "RawExtension" => json!({"type": "object"}),
        _ => json!({}),
    }
}

fn object(of: &Type, group: &str, version: Option<&str>, descriptions: &Descriptions) -> Value {
    let (own, mut texts) = descriptions.of(of.id);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    if let Some(text) = own {
        schema.insert("description".to_owned(), text);
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in &of.fields {
        properties.insert(field.name.to_owned(), property(field, texts.remove(field.name)));
        if field.is_required() {
            required.push(field.name);
        }
    }
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if of.is_atomic() {
        schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if let Some(unions) = of.unions().and_then(|text| serde_json::from_str(text).ok()) {
        schema.insert("x-kubernetes-unions".to_owned(), unions);
    }
    let kinds = kinds(of, group, version);
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    Value::Object(schema)
}

/// The kinds of a type; the options of `meta/v1` are kinds of the document's own group too.
fn kinds(of: &Type, group: &str, version: Option<&str>) -> Vec<Value> {
    let entry = |[group, version, kind]: [&str; 3]| json!({"group": group, "version": version, "kind": kind});
    let mut out: Vec<Value> = of.kinds().map(entry).collect();
    let name = of.struct_name();
    if let (true, Some(version)) = (matches!(name, "DeleteOptions" | "WatchEvent") && !group.is_empty(), version) {
        out.push(entry([group, version, name]));
    }
    out
}

fn property(field: &Field, description: Option<Value>) -> Value {
    let mut schema = value_schema(&field.shape, field);
    let has_reference = schema.contains_key("$ref");
    let mut facts = Map::new();
    if let Some(text) = description {
        facts.insert("description".to_owned(), text);
    }
    if let Some(default) = default(field) {
        facts.insert("default".to_owned(), default);
    }
    let values: Vec<&str> = field.enumeration().collect();
    if !values.is_empty() {
        facts.insert("enum".to_owned(), json!(values));
    }
    extensions(field, &mut facts);
    if has_reference && !facts.is_empty() {
        schema = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
    }
    schema.append(&mut facts);
    Value::Object(schema)
}

fn default(field: &Field) -> Option<Value> {
    if field.has_zero_default() {
        return Some(zero(&field.shape));
    }
    serde_json::from_str(field.default()?).ok()
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => json!(""),
        Shape::Bool => json!(false),
        Shape::Int(_) | Shape::Float(_) => json!(0),
        _ => json!({}),
    }
}

fn extensions(field: &Field, facts: &mut Map<String, Value>) {
    let mut add = |name: &str, value: Value| drop(facts.insert(format!("x-kubernetes-{name}"), value));
    if let Some(list_type) = field.list_type() {
        let word = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        add("list-type", json!(word));
    }
    let keys: Vec<&str> = field.list_map_keys().collect();
    if !keys.is_empty() {
        add("list-map-keys", json!(keys));
    }
    if let Some(map_type) = field.map_type() {
        add("map-type", json!(map_type));
    }
    if let Some(strategy) = field.patch_strategy() {
        add("patch-strategy", json!(strategy));
    }
    if let Some(key) = field.patch_merge_key() {
        add("patch-merge-key", json!(key));
    }
}

fn value_schema(shape: &Shape, field: &Field) -> Map<String, Value> {
    let schema = match shape {
        Shape::List { item, .. } => json!({"type": "array", "items": item_schema(item, field)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": item_schema(item, field)}),
        Shape::Ref(id) => reference(&format!("io.k8s.{}", table().get(*id).id)),
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int(kind) => match *kind {
            "int64" | "uint64" => json!({"type": "integer", "format": "int64"}),
            _ => json!({"type": "integer", "format": "int32"}),
        },
        Shape::Float(kind) => {
            let format = if *kind == "float32" { "float" } else { "double" };
            json!({"type": "number", "format": format})
        }
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        other => reference(scalar_name(other).unwrap_or_default()),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn item_schema(shape: &Shape, field: &Field) -> Value {
    let mut schema = value_schema(shape, field);
    if shape.item().is_some() {
        return Value::Object(schema);
    }
    if field.items_have_zero_default() {
        if schema.contains_key("$ref") {
            schema = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
        }
        schema.insert("default".to_owned(), zero(shape));
    }
    let values: Vec<&str> = field.item_enumeration().collect();
    if !values.is_empty() {
        schema.insert("enum".to_owned(), json!(values));
    }
    Value::Object(schema)
}
