//! Every stored resource in protobuf: made from it, read as it, listed, watched and deleted; the same as in JSON.

use api::protobuf;
use bytes::{Buf as _, Bytes};
use serde_json::json;

use super::every::samples;
use super::*;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ACCEPT: (&str, &str) = ("accept", PROTOBUF);
const CONTENT: (&str, &str) = ("content-type", PROTOBUF);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An answer in protobuf.
struct Encoded {
    code: u16,
    content_type: String,
    body: Bytes,
}

impl Encoded {
    fn tree(&self, group: &str, version: &str, kind: &str) -> Value {
        assert_eq!(self.content_type, PROTOBUF);
        let gvk = api::GroupVersionKind::new(group, version, kind);
        let body = protobuf::decode_body(&self.body, &gvk).unwrap();
        assert_eq!(body.gvk, gvk);
        body.value
    }
}

async fn exchange(server: &Server, verb: Verb, path: &str, body: Vec<u8>) -> Encoded {
    let (response, _) = server.exchange(verb, path, &[ACCEPT, CONTENT], Body::from(body)).await;
    let code = response.status().as_u16();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    Encoded { code, content_type, body: response.into_body().collect().await.unwrap().to_bytes() }
}

async fn check(server: &Server, table: &'static schema::Resource) {
    let (group, version, kind) = (table.group, table.version, table.kind);
    let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    let namespace = if table.namespaced { "/namespaces/default" } else { "" };
    let collection = format!("{root}/{version}{namespace}/{}", table.name);
    let sample = samples::sample(table);
    let path = format!("{collection}/{}", api::meta::name(&sample));

    let made = exchange(server, Verb::Create, &collection, protobuf::encode_object(&sample).unwrap()).await;
    if made.code != 201 {
        // Another version of the resource has left it, or it is no valid sample: then it is none in JSON either.
        let refused = server.create(&collection, &sample).await;
        assert_eq!((refused.code, refused.body), (made.code, made.tree("", "v1", "Status")));
        return;
    }
    let json = server.get(&path).await.body;
    assert_eq!(made.tree(group, version, kind), filled(table, json), "{collection}");
    let got = exchange(server, Verb::Get, &path, Vec::new()).await;
    assert_eq!(got.body, made.body, "{collection}");
    let put = exchange(server, Verb::Update, &path, got.body.to_vec()).await;
    assert_eq!((put.code, &put.body), (200, &made.body), "{collection}");

    let list = exchange(server, Verb::List, &collection, Vec::new()).await;
    let decoded = list.tree(group, version, table.list_kind);
    let items = server.list(&collection).await.body["items"].take();
    let items: Vec<Value> = items.as_array().unwrap().iter().map(|item| filled(table, item.clone())).collect();
    assert_eq!(decoded["items"], Value::Array(items), "{collection}");
    if table.has_verb("watch") {
        let event = first_event(server, &collection).await;
        assert_eq!(event, [b"\x0a\x05ADDED\x12".as_slice(), &framed(&made.body)].concat(), "{collection}");
    }
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    let options = protobuf::encode_object(&options).unwrap();
    let deleted = exchange(server, Verb::Delete, &path, options).await;
    assert_eq!(deleted.code, 200, "{collection}: {:?}", deleted.body);
}

/// With the empty structs that a rule took away and that protobuf cannot leave out.
fn filled(table: &schema::Resource, object: Value) -> Value {
    schema::decode_value(object, table.type_id.unwrap()).unwrap().value
}

/// `RawExtension` around an object, with its length.
fn framed(object: &[u8]) -> Vec<u8> {
    let mut event = Vec::new();
    protobuf::write_event(&mut event, "ADDED", object);
    event[4 + b"\x0a\x05ADDED\x12".len()..].to_vec()
}

async fn first_event(server: &Server, collection: &str) -> Vec<u8> {
    let (response, _) = server.exchange(Verb::Watch, collection, &[ACCEPT], Body::empty()).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = response.into_body();
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("an event in time");
    let mut data = frame.unwrap().unwrap().into_data().unwrap();
    let length = data.get_u32() as usize;
    data[..length].to_vec()
}

#[tokio::test]
async fn every_resource_is_the_same_in_protobuf() {
    let server = server().await;
    for table in schema::table().resources().filter(|resource| resource.storage.is_some()) {
        // Its proof of possession is a signature over the pod's UID.
        if table.name == "podcertificaterequests" {
            continue;
        }
        check(&server, table).await;
    }
}

#[tokio::test]
async fn refusals_are_in_protobuf_too() {
    let server = server().await;
    let missing = exchange(&server, Verb::Get, &format!("{MAPS}/none"), Vec::new()).await;
    assert_eq!(missing.code, 404);
    assert_eq!(missing.tree("", "v1", "Status")["message"], r#"configmaps "none" not found"#);
    let damaged = exchange(&server, Verb::Create, MAPS, b"k8s\0\x0a\xff".to_vec()).await;
    assert_eq!(damaged.code, 400);
    let wrong = protobuf::encode_object(&json!({"kind": "Secret", "apiVersion": "v1"})).unwrap();
    let wrong = exchange(&server, Verb::Create, MAPS, wrong).await;
    assert_eq!((wrong.code, wrong.tree("", "v1", "Status")["reason"].as_str()), (400, Some("BadRequest")));
}

#[tokio::test]
async fn metadata_alone_has_a_protobuf_form() {
    let server = server().await;
    server.create(MAPS, &config_map("a", &json!({"k": "v"}))).await;
    let accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (response, _) = server.exchange(Verb::List, MAPS, &[("accept", accept)], Body::empty()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let gvk = api::GroupVersionKind::new("meta.k8s.io", "v1", "PartialObjectMetadataList");
    let list = protobuf::decode_body(&body, &gvk).unwrap().value;
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
}
