//! The aggregated form: everything of the core group, or everything of the others, in one list.

use api::Value;
use api::schema::{Group, Resource, ResponseKind, Subresource, Table};
use serde_json::{Map, json};

/// `APIGroupDiscoveryList` of the core group, or of all others.
pub(super) fn list(table: &Table, api_version: &str, core: bool) -> Value {
    let groups = table.groups().iter().filter(|group| group.name.is_empty() == core);
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": groups.map(group_value).collect::<Vec<_>>(),
    })
}

fn group_value(group: &Group) -> Value {
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    let versions = group.versions.iter().map(|version| {
        let resources: Vec<Value> = version.resources.iter().map(resource_value).collect();
        json!({"version": version.version, "resources": resources, "freshness": "Current"})
    });
    json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = Map::new();
    value.insert("resource".to_owned(), json!(resource.name));
    value.insert("responseKind".to_owned(), kind_value(resource.response_kind));
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    value.insert("scope".to_owned(), json!(scope));
    value.insert("singularResource".to_owned(), json!(resource.singular));
    value.insert("verbs".to_owned(), json!(resource.verbs));
    for (field, list) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !list.is_empty() {
            value.insert(field.to_owned(), json!(list));
        }
    }
    if !resource.subresources.is_empty() {
        let list: Vec<Value> = resource.subresources.iter().map(subresource_value).collect();
        value.insert("subresources".to_owned(), Value::Array(list));
    }
    Value::Object(value)
}

fn subresource_value(subresource: &Subresource) -> Value {
    let mut value = json!({
        "subresource": subresource.name,
        "responseKind": kind_value(subresource.response_kind),
        "verbs": subresource.verbs,
    });
    if !subresource.accepts.is_empty() {
        value["acceptedTypes"] = subresource.accepts.iter().map(|kind| kind_value(*kind)).collect();
    }
    value
}

fn kind_value(kind: ResponseKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}
