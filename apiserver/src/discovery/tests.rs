//! Forms and their headers.

use super::*;

fn headers(accept: &str) -> HeaderMap {
    [(header::ACCEPT, accept.parse().unwrap())].into_iter().collect()
}

#[test]
fn the_first_form_that_can_be_had_is_chosen() {
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    let cases = [
        (String::new(), Some(Form::Json)),
        (format!("{v2},{beta},application/json"), Some(Form::Aggregated(Aggregated::V2))),
        (beta.to_owned(), None),
        (format!("{beta},application/json"), Some(Form::Json)),
        (format!("{v2};profile=nopeer,application/json"), Some(Form::Aggregated(Aggregated::V2))),
        ("application/json;g=apidiscovery.k8s.io;v=v3;as=X, application/json".to_owned(), Some(Form::Json)),
        ("application/vnd.kubernetes.protobuf, */*".to_owned(), Some(Form::Protobuf)),
        ("application/vnd.kubernetes.protobuf".to_owned(), Some(Form::Protobuf)),
        ("application/yaml".to_owned(), Some(Form::Yaml)),
        ("application/yaml;q=0.5, application/json".to_owned(), Some(Form::Json)),
    ];
    for (accept, expected) in cases {
        assert_eq!(form(&headers(&accept), true), expected, "{accept}");
    }
}

#[test]
fn a_known_document_is_not_sent_again() {
    let discovery = Discovery::new(api::schema::table(), "h:1");
    let mut asked = headers(Aggregated::V2.content_type());
    let first = discovery.get("/apis/", &asked, false).unwrap();
    assert_eq!(first.headers()[header::CONTENT_TYPE], Aggregated::V2.content_type());
    asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
    assert_eq!(discovery.get("/apis", &asked, false).unwrap().status(), StatusCode::NOT_MODIFIED);
    assert!(discovery.get("/apis/none", &asked, false).is_none());
}

#[test]
fn subresources_name_a_foreign_kind() {
    let discovery = Discovery::new(api::schema::table(), "h:1");
    let list = discovery.legacy["/api/v1"]["resources"].as_array().unwrap();
    let eviction = list.iter().find(|one| one["name"] == "pods/eviction").unwrap();
    assert_eq!(
        (&eviction["group"], &eviction["version"], &eviction["kind"]),
        (&"policy".into(), &"v1".into(), &"Eviction".into())
    );
    assert!(list.iter().find(|one| one["name"] == "pods/status").unwrap().get("group").is_none());
}
