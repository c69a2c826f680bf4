//! Answers that are not the objects themselves: tables and partial metadata.

use api::schema::Column;
use api::{Status, Value};
use jiff::Timestamp;
use serde_json::json;

use super::resource::Endpoint;
use crate::negotiate::MetaVersion;
use crate::request::Context;

/// What a table's rows carry of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    None,
}

impl Include {
    /// Reads `includeObject`.
    pub(crate) fn read(context: &Context) -> Result<Self, Status> {
        match context.param("includeObject").unwrap_or("") {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::None),
            other => {
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                let error = format!("includeObject: Invalid value: {other:?}: {detail}");
                Err(Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// How tables of a request look.
#[derive(Clone, Copy)]
pub(crate) struct Layout<'a> {
    pub(crate) version: MetaVersion,
    pub(crate) include: Include,
    pub(crate) columns: &'a [Column],
    pub(crate) now: Timestamp,
}

impl Layout<'_> {
    /// A table of rows; the columns are told on the first table of a watch only.
    pub(crate) fn table(&self, metadata: Value, rows: Vec<Value>, with_columns: bool) -> Value {
        let columns: Option<Vec<Value>> = with_columns.then(|| self.columns.iter().map(column).collect());
        json!({
            "kind": "Table", "apiVersion": self.version.api_version(), "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    /// The row of a stored object.
    pub(crate) fn row(&self, endpoint: &Endpoint, stored: Value) -> Value {
        let working = endpoint.working(stored);
        let cells = endpoint.strategy.row(&working, self.now).unwrap_or_else(|| self.default_cells(&working));
        let conditions = endpoint.strategy.row_conditions(&working);
        let mut row = json!({ "cells": cells });
        if !conditions.is_empty() {
            row["conditions"] = conditions.into();
        }
        let mut object = endpoint.client_of_working(working);
        if self.include == Include::Metadata {
            endpoint.strategy.strip_metadata(&mut object);
        }
        row["object"] = self.object(object);
        row
    }

    /// The cells of a kind that has no row of its own.
    fn default_cells(&self, object: &Value) -> Vec<Value> {
        let cell = |column: &Column| match column.name {
            "Name" => api::meta::name(object).to_owned(),
            "Created At" => api::meta::text(object, "creationTimestamp").to_owned(),
            "Age" => kinds::age::of(object, self.now),
            _ => "<unknown>".to_owned(),
        };
        self.columns.iter().map(|column| cell(column).into()).collect()
    }

    /// What a row carries of its object.
    pub(crate) fn object(&self, object: Value) -> Value {
        match self.include {
            Include::None => Value::Null,
            Include::Object => object,
            Include::Metadata => partial(object, self.version),
        }
    }
}

pub(crate) fn column(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

impl Endpoint {
    /// `PartialObjectMetadata` of a stored object.
    pub(crate) fn partial(&self, mut stored: Value, version: MetaVersion) -> Value {
        self.strategy.strip_metadata(&mut stored);
        partial(stored, version)
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(mut object: Value, version: MetaVersion) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
    json!({ "kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata })
}
