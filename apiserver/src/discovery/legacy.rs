//! The old form: `/api`, `/apis`, one document for each group and for each version.

use std::collections::HashMap;

use api::Value;
use api::schema::{Group, Resource, Subresource, Table, Version};
use serde_json::{Map, json};

/// Every document by its path, without a trailing slash.
pub(super) fn documents(table: &Table, address: &str) -> HashMap<String, Value> {
    let mut documents = HashMap::new();
    let servers = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]);
    let versions = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers});
    documents.insert("/api".to_owned(), versions);
    let mut groups = Vec::new();
    for group in table.groups() {
        for version in &group.versions {
            documents.insert(path(group, version), resource_list(group, version));
        }
        if group.name.is_empty() {
            continue;
        }
        let value = group_value(group);
        groups.push(Value::Object(value.clone()));
        let mut document = value;
        document.insert("kind".to_owned(), json!("APIGroup"));
        document.insert("apiVersion".to_owned(), json!("v1"));
        documents.insert(format!("/apis/{}", group.name), Value::Object(document));
    }
    documents.insert("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    documents
}

fn path(group: &Group, version: &Version) -> String {
    match group.name {
        "" => format!("/api/{}", version.version),
        name => format!("/apis/{name}/{}", version.version),
    }
}

fn group_version(group: &str, version: &str) -> String {
    api::GroupVersion::new(group, version).to_string()
}

fn group_value(group: &Group) -> Map<String, Value> {
    let one = |version: &Version| json!({"groupVersion": group_version(group.name, version.version), "version": version.version});
    let mut value = Map::new();
    value.insert("name".to_owned(), json!(group.name));
    value.insert("versions".to_owned(), group.versions.iter().map(one).collect());
    value.insert("preferredVersion".to_owned(), group.versions.first().map(one).unwrap_or_default());
    value
}

fn resource_list(group: &Group, version: &Version) -> Value {
    let mut resources = Vec::new();
    for resource in &version.resources {
        resources.push(resource_value(resource));
        resources.extend(resource.subresources.iter().map(|below| subresource_value(resource, below)));
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group.name, version.version),
        "resources": resources,
    });
    if !group.name.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    list
}

fn resource_value(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.name,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    for (field, list) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !list.is_empty() {
            value[field] = json!(list);
        }
    }
    if !resource.storage_hash.is_empty() {
        value["storageVersionHash"] = json!(resource.storage_hash);
    }
    value
}

fn subresource_value(resource: &Resource, below: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", resource.name, below.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": below.kind,
        "verbs": below.verbs,
    });
    if (below.group, below.version) != (resource.group, resource.version) {
        value["group"] = json!(below.group);
        value["version"] = json!(below.version);
    }
    value
}
