//! `componentstatuses`: the health of the control plane's parts, as far as this process can tell.

use api::{Status, Value};
use http::StatusCode;
use serde_json::json;

use crate::answer::{self, Response};
use crate::negotiate::{Accept, MetaVersion, Transform};
use crate::registry::Registry;
use crate::registry::table::partial;
use crate::request::{ResourcePath, Verb};

/// The parts that upstream names; only the store is part of this process.
const STORE: &str = "etcd-0";

pub(super) async fn answer(registry: &Registry, path: &ResourcePath, accept: Accept) -> Result<Response, Status> {
    let health = registry.store.health().await;
    let item = component(STORE, health.err().map(|error| error.to_string()));
    let value = match (path.verb, accept.transform) {
        (Verb::Get, _) if path.name != STORE => return Err(Status::not_found("", "componentstatus", &path.name)),
        (_, Some((Transform::Table, version))) => table(&item, version),
        (Verb::Get, Some((_, version))) => partial(item, version),
        (Verb::Get, None) => item,
        (Verb::List, Some((_, version))) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(), "metadata": {},
            "items": [partial(item, version)],
        }),
        (Verb::List, None) => {
            json!({ "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [item] })
        }
        _ => return Err(Status::method_not_supported("", "componentstatuses", path.verb.word())),
    };
    Ok(answer::value(StatusCode::OK, &value, accept.style()))
}

fn component(name: &str, error: Option<String>) -> Value {
    let condition = match error {
        None => json!({ "type": "Healthy", "status": "True", "message": "ok" }),
        Some(error) => json!({ "type": "Healthy", "status": "False", "error": error }),
    };
    json!({ "kind": "ComponentStatus", "apiVersion": "v1", "metadata": { "name": name }, "conditions": [condition] })
}

fn table(item: &Value, version: MetaVersion) -> Value {
    let columns = api::schema::table().resource("", "v1", "componentstatuses").map_or(&[][..], |found| &found.columns);
    let definitions: Vec<Value> = columns.iter().map(crate::registry::table::column).collect();
    let condition = &item["conditions"][0];
    let healthy = if condition["status"] == "True" { "Healthy" } else { "Unhealthy" };
    let text = |field: &str| condition[field].as_str().unwrap_or("").to_owned();
    let cells = json!([item["metadata"]["name"], healthy, text("message"), text("error")]);
    json!({
        "kind": "Table", "apiVersion": version.api_version(), "metadata": {},
        "columnDefinitions": definitions,
        "rows": [{ "cells": cells, "object": partial(item.clone(), version) }],
    })
}
