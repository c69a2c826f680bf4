//! Accept and Content-Type, as stock clients send them.

use http::{HeaderMap, HeaderValue, header};

use super::*;

const LIST: Offer = Offer { table: true, stream: false, list: false };

fn headers(accept: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
    headers
}

#[test]
fn the_best_clause_that_can_be_served_wins() {
    let table = Some((Transform::Table, MetaVersion::V1));
    let partial = Some((Transform::Partial, MetaVersion::V1));
    let cases = [
        ("", Format::Json, None),
        ("*/*", Format::Json, None),
        ("application/*", Format::Json, None),
        ("application/yaml", Format::Yaml, None),
        ("application/vnd.kubernetes.protobuf,application/json", Format::Protobuf, None),
        ("application/json,application/vnd.kubernetes.protobuf", Format::Json, None),
        // A table has no protobuf form.
        (
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
            Format::Json,
            table,
        ),
        ("application/yaml;q=0.5,application/json;q=0.9", Format::Json, None),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Format::Json,
            table,
        ),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            Format::Protobuf,
            partial,
        ),
        ("application/json;as=Unheard;v=v1;g=meta.k8s.io,application/json", Format::Json, None),
    ];
    for (text, format, transform) in cases {
        let accept = accept(&headers(text), false, LIST).unwrap();
        assert_eq!((accept.format, accept.transform), (format, transform), "{text}");
    }
}

#[test]
fn nothing_acceptable_is_406() {
    let refused = accept(&headers("text/html"), false, LIST).unwrap_err();
    assert_eq!(refused.reason, Reason::NotAcceptable);
    assert!(refused.message.starts_with("406: Not Acceptable\n\nAvailable representations: application/json, "));
    let no_tables = Offer { table: false, stream: false, list: false };
    let refused = accept(&headers("application/json;as=Table;v=v1;g=meta.k8s.io"), false, no_tables).unwrap_err();
    assert!(refused.message.starts_with("only the following media types are accepted: application/json, "));
    let stream = Offer { table: true, stream: true, list: false };
    assert!(accept(&headers("application/yaml"), false, stream).is_err());
}

#[test]
fn bodies_have_three_forms() {
    let mut headers = HeaderMap::new();
    assert_eq!(content(&headers), Ok(Format::Json));
    let forms = [
        ("application/json; charset=utf-8", Format::Json),
        ("application/yaml", Format::Yaml),
        ("application/vnd.kubernetes.protobuf", Format::Protobuf),
    ];
    for (text, format) in forms {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
        assert_eq!(content(&headers), Ok(format), "{text}");
    }
    for text in ["application/cbor", "text/plain"] {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
        assert_eq!(content(&headers).unwrap_err().reason, Reason::UnsupportedMediaType, "{text}");
    }
}

#[test]
fn refusals_are_written_as_answers_are() {
    let cases = [
        ("", Format::Json),
        ("application/vnd.kubernetes.protobuf", Format::Protobuf),
        ("application/json, application/vnd.kubernetes.protobuf", Format::Json),
        ("application/yaml", Format::Yaml),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Format::Json),
    ];
    for (text, format) in cases {
        assert_eq!(style(&headers(text), false).format, format, "{text}");
    }
}
