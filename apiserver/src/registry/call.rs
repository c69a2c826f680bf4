//! One request on one resource, and how its answers are written.

use std::sync::Arc;

use api::protobuf;
use api::schema::Column;
use api::{GroupVersionKind, Status, Value};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use serde_json::json;

use super::Registry;
use super::object::Stored;
use super::resource::{Collection, Endpoint};
use super::special;
use super::table::{Include, Layout, partial};
use super::write;
use crate::answer::{self, Body, Response};
use crate::negotiate::{Accept, Format, MetaVersion, Transform};
use crate::request::{Context, ResourcePath};

/// Above this, a list is written piece by piece, so that its memory is that of a piece.
const PIECE_BYTES: usize = 256 * 1024;

/// One request on one resource.
pub(crate) struct Call<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) context: &'a Context,
    pub(crate) path: &'a ResourcePath,
    pub(crate) accept: Accept,
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continue_token {
            meta["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

impl Call<'_> {
    pub(crate) fn collection(&self) -> &Arc<Collection> {
        &self.endpoint.collection
    }

    /// What the strategy may know of this request.
    pub(crate) fn strategy_request(&self) -> kinds::Request<'_> {
        kinds::Request {
            now: self.context.now,
            namespace: &self.path.namespace,
            version: &self.path.version,
            user: &self.context.user.name,
            groups: &self.context.user.groups,
            user_uid: &self.context.user.uid,
        }
    }

    /// 404 on the object of this request.
    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.endpoint.table.group, self.endpoint.table.name, name)
    }

    /// Answers with a stored object.
    pub(crate) fn object(&self, code: StatusCode, raw: &Bytes, revision: u64) -> Result<Response, Status> {
        if self.accept.transform.is_none() && self.accept.format == Format::Json && !self.accept.pretty {
            let mut out = Vec::new();
            self.endpoint.write_full(&mut out, raw, revision);
            out.push(b'\n');
            return Ok(answer::bytes(code, Format::Json.content_type(), out));
        }
        if self.accept.transform.is_none() && self.accept.format == Format::Protobuf {
            let mut text = Vec::new();
            self.endpoint.write_full(&mut text, raw, revision);
            let encoded = protobuf::encode_text(&self.endpoint.table.gvk(), &text);
            let body = encoded.map_err(|error| answer::not_encoded(&error))?;
            return Ok(answer::bytes(code, Format::Protobuf.content_type(), body));
        }
        let stored = self.collection().tree(raw, revision)?;
        self.stored_tree(code, stored)
    }

    /// Answers with an object in its stored version.
    pub(crate) fn stored_tree(&self, code: StatusCode, stored: Value) -> Result<Response, Status> {
        match self.accept.transform {
            None => Ok(self.value(code, &self.endpoint.served(stored))),
            Some((Transform::Partial, version)) => Ok(self.value(code, &self.endpoint.partial(stored, version))),
            Some((Transform::PartialList, _)) => Err(self.not_a_list()),
            Some((Transform::Table, version)) => {
                let layout = self.layout(version, &self.endpoint.table.columns)?;
                let meta = table_meta(&stored);
                let row = layout.row(self.endpoint, stored);
                Ok(self.value(code, &layout.table(meta, vec![row], true)))
            }
        }
    }

    /// Answers with what a subresource shows of an object.
    pub(crate) fn part(&self, code: StatusCode, part: Value) -> Result<Response, Status> {
        match self.accept.transform {
            None => Ok(self.value(code, &part)),
            Some((Transform::Partial, version)) => Ok(self.value(code, &partial(part, version))),
            Some((Transform::PartialList, _)) => Err(self.not_a_list()),
            Some((Transform::Table, version)) => {
                let subresource = self.endpoint.table.subresource(&self.path.subresource);
                let columns = subresource.map_or(&[][..], |subresource| &subresource.columns);
                let layout = self.layout(version, columns)?;
                let meta = table_meta(&part);
                let cells = special::part_cells(&part, self.context.now);
                let row = json!({ "cells": cells, "object": layout.object(part) });
                Ok(self.value(code, &layout.table(meta, vec![row], true)))
            }
        }
    }

    /// How tables of this request look.
    pub(crate) fn layout<'c>(&self, version: MetaVersion, columns: &'c [Column]) -> Result<Layout<'c>, Status> {
        Ok(Layout { version, include: Include::read(self.context)?, columns, now: self.context.now })
    }

    /// Answers with a tree as it is.
    pub(crate) fn value(&self, code: StatusCode, value: &Value) -> Response {
        answer::value(code, value, self.accept.style())
    }

    /// Answers with a list of stored objects.
    pub(crate) fn list(&self, meta: &ListMeta, items: Vec<Arc<Stored>>) -> Result<Response, Status> {
        let trees = |items: Vec<Arc<Stored>>| items.into_iter().map(|item| item.tree());
        match self.accept.transform {
            None if self.accept.format == Format::Json && !self.accept.pretty => Ok(self.spliced(meta, items)),
            None if self.accept.format == Format::Protobuf => self.protobuf_list(meta, &items),
            None => {
                let items = trees(items).map(|tree| without_type(self.endpoint.served(tree)));
                Ok(self.value(StatusCode::OK, &self.list_value(meta, items.collect())))
            }
            Some((Transform::Partial, _)) => Err(self.is_a_list()),
            Some((Transform::PartialList, version)) => {
                let items: Vec<Value> = trees(items).map(|tree| self.endpoint.partial(tree, version)).collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(),
                    "metadata": meta.to_value(), "items": items,
                });
                Ok(self.value(StatusCode::OK, &list))
            }
            Some((Transform::Table, version)) => {
                let layout = self.layout(version, &self.endpoint.table.columns)?;
                let mut trees: Vec<Value> = trees(items).collect();
                trees.sort_by_key(|tree| self.endpoint.strategy.row_place(tree));
                let marked = self.endpoint.strategy.marked(&trees);
                let mut rows: Vec<Value> = trees.into_iter().map(|tree| layout.row(self.endpoint, tree)).collect();
                if let Some((at, mark)) = marked
                    && let Some(Value::String(name)) = rows[at].pointer_mut("/cells/0")
                {
                    name.push_str(mark);
                }
                Ok(self.value(StatusCode::OK, &layout.table(meta.to_value(), rows, true)))
            }
        }
    }

    fn protobuf_list(&self, meta: &ListMeta, items: &[Arc<Stored>]) -> Result<Response, Status> {
        let table = self.endpoint.table;
        let gvk = GroupVersionKind::new(table.group, table.version, table.list_kind);
        let mut items = items.iter();
        let next = |out: &mut Vec<u8>| {
            let item = items.next();
            item.inspect(|item| self.endpoint.write_item(out, &item.raw, item.revision)).is_some()
        };
        let pieces =
            protobuf::encode_list(&gvk, &meta.to_value(), next).map_err(|error| answer::not_encoded(&error))?;
        let length: usize = pieces.iter().map(Vec::len).sum();
        let content_type = Format::Protobuf.content_type();
        if length < PIECE_BYTES {
            return Ok(answer::bytes(StatusCode::OK, content_type, pieces.concat()));
        }
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece)));
        let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        Ok(response)
    }

    /// A list as a tree.
    pub(crate) fn list_value(&self, meta: &ListMeta, items: Vec<Value>) -> Value {
        let table = self.endpoint.table;
        json!({
            "kind": table.list_kind, "apiVersion": table.api_version(), "metadata": meta.to_value(), "items": items,
        })
    }

    fn not_a_list(&self) -> Status {
        let (package, kind) = (write::hub_package(self.endpoint.table.group), self.endpoint.table.kind);
        let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
        Status::new(api::Reason::NotAcceptable, format!("{message} (*{package}.{kind})"))
    }

    fn is_a_list(&self) -> Status {
        let (package, kind) = (write::hub_package(self.endpoint.table.group), self.endpoint.table.list_kind);
        let message = "you requested PartialObjectMetadata, but the requested object is a list";
        Status::new(api::Reason::NotAcceptable, format!("{message} (*{package}.{kind})"))
    }

    fn spliced(&self, meta: &ListMeta, items: Vec<Arc<Stored>>) -> Response {
        let table = self.endpoint.table;
        let (kind, version) = (table.list_kind, table.api_version());
        let open = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{},"items":["#, meta.to_value());
        let pieces = Pieces { endpoint: self.endpoint.clone(), items, next: 0, open: Some(open), done: false };
        let size: usize = pieces.items.iter().map(|item| item.raw.len()).sum();
        let body = if size < PIECE_BYTES {
            Body::from(pieces.flatten().collect::<Vec<u8>>())
        } else {
            Body::from_stream(stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
        };
        let mut response = Response::new(body);
        let content_type = http::HeaderValue::from_static(Format::Json.content_type());
        response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
        response
    }
}

/// A list's body in pieces, made as they are sent.
struct Pieces {
    endpoint: Arc<Endpoint>,
    items: Vec<Arc<Stored>>,
    next: usize,
    open: Option<String>,
    done: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = self.open.take().unwrap_or_default().into_bytes();
        while out.len() < PIECE_BYTES {
            let Some(item) = self.items.get(self.next) else {
                out.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if self.next > 0 {
                out.push(b',');
            }
            self.endpoint.write_item(&mut out, &item.raw, item.revision);
            self.next += 1;
        }
        Some(out.into())
    }
}

/// `metadata` of a table of one object, which has no version when nothing is stored.
fn table_meta(object: &Value) -> Value {
    match api::meta::resource_version(object) {
        "" => json!({}),
        version => json!({ "resourceVersion": version }),
    }
}

/// A list's item: without kind and apiVersion, as upstream's typed items are.
fn without_type(mut item: Value) -> Value {
    if let Some(root) = item.as_object_mut() {
        root.remove("kind");
        root.remove("apiVersion");
    }
    item
}
