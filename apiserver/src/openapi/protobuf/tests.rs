//! The bytes of small documents, and every member of the whole one.

use serde_json::json;

use super::*;

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    // All of the examples are short.
    out.push(u8::try_from(content.len()).unwrap());
    out.extend_from_slice(content);
    out
}

fn text_of(number: u8, content: &str) -> Vec<u8> {
    bytes(number, content.as_bytes())
}

fn encoded(of: &Message, value: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    message(&mut out, of, value.as_object().unwrap()).unwrap();
    out.finish()
}

#[test]
fn a_document_is_written_by_the_numbers_of_its_fields() {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "T", "version": "1"},
        "security": [{"Bearer": []}],
        "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "a", "in": "header"}},
        "definitions": {"A": {"type": "object"}},
    });
    let key = [text_of(1, "apiKey"), text_of(2, "a"), text_of(3, "header")].concat();
    let expected = [
        text_of(1, "2.0"),
        bytes(2, &[text_of(1, "T"), text_of(2, "1")].concat()),
        bytes(9, &bytes(1, &[text_of(1, "A"), bytes(2, &[178, 1, 8, 10, 6, 111, 98, 106, 101, 99, 116])].concat())),
        bytes(12, &bytes(1, &[text_of(1, "Bearer"), bytes(2, &[])].concat())),
        bytes(13, &bytes(1, &[text_of(1, "Bearer"), bytes(2, &bytes(2, &key))].concat())),
    ];
    assert_eq!(encode(&document).unwrap(), expected.concat());
}

#[test]
fn parameters_are_told_apart_by_their_place() {
    let query = json!({"name": "q", "in": "query", "uniqueItems": true, "type": "string"});
    let expected = [text_of(2, "query"), text_of(4, "q"), text_of(6, "string"), vec![160, 1, 1]].concat();
    let parameters = |value: &Value| encoded(&PARAMETERS, &json!({"p": value}));
    let named = |content: &[u8]| bytes(1, &[text_of(1, "p"), bytes(2, content)].concat());
    assert_eq!(parameters(&query), named(&bytes(2, &bytes(3, &expected))));

    let path = json!({"name": "n", "in": "path", "required": true});
    let expected = [vec![8, 1], text_of(2, "path"), text_of(4, "n")].concat();
    assert_eq!(parameters(&path), named(&bytes(2, &bytes(4, &expected))));

    let body = json!({"name": "body", "in": "body", "schema": {"$ref": "#/a"}, "required": false});
    let expected = [text_of(2, "body"), text_of(3, "body"), bytes(5, &text_of(1, "#/a"))].concat();
    assert_eq!(parameters(&body), named(&bytes(1, &expected)));

    let reference = encoded(&PATH_ITEM, &json!({"parameters": [{"$ref": "#/parameters/a"}]}));
    assert_eq!(reference, bytes(9, &bytes(2, &text_of(1, "#/parameters/a"))));
}

#[test]
fn pairs_stand_in_lists_of_their_kind() {
    let answers = json!({"x-late": true, "200": {"description": "OK", "schema": {"format": "f"}}});
    let response = [text_of(1, "OK"), bytes(2, &bytes(1, &text_of(2, "f")))].concat();
    let expected = [
        bytes(1, &[text_of(1, "200"), bytes(2, &bytes(1, &response))].concat()),
        bytes(2, &[text_of(1, "x-late"), bytes(2, &text_of(2, "true\n"))].concat()),
    ];
    assert_eq!(encoded(&RESPONSES, &answers), expected.concat());
    let closed = json!({"additionalProperties": false});
    assert_eq!(encoded(&SCHEMA, &closed), [170, 1, 2, 16, 0]);
    let open = json!({"additionalProperties": {"format": "f"}});
    assert_eq!(encoded(&SCHEMA, &open), [170, 1, 5, 10, 3, 18, 1, b'f']);
}

#[test]
fn what_has_no_field_is_an_error() {
    let unknown = encode(&json!({"swagger": "2.0", "servers": []})).unwrap_err();
    assert_eq!(unknown.to_string(), "member \"servers\" of an OpenAPI object has no field in its message");
    let shape = encode(&json!({"definitions": {"A": {"format": 1}}})).unwrap_err();
    assert_eq!(shape.to_string(), "member \"format\" of an OpenAPI object is not text: 1");
}

#[test]
fn the_whole_document_has_a_field_for_every_member() {
    let document = crate::openapi::v2::document();
    let whole: Value = serde_json::from_slice(&document.bytes).unwrap();
    let encoded = encode(&whole).unwrap();
    assert!(encoded.len() > 1_000_000, "{}", encoded.len());
    let name = b"io.k8s.api.core.v1.PodSpec";
    assert!(encoded.windows(name.len()).any(|window| window == name));
}
