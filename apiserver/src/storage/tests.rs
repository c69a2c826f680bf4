//! What others wrote, as it is read; what we write, as others read it.

use super::*;

#[test]
fn what_has_a_protobuf_form_gets_it_and_is_read_as_it_was() {
    let write = |text: &'static str| encoded(Bytes::from_static(text.as_bytes()));
    let object = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"managedFields":[{"manager":"m"}],"name":"a"},"data":{"b":"c"}}"#;
    let stored = write(object);
    assert!(stored.starts_with(&api::protobuf::MAGIC), "{stored:?}");
    assert_eq!(text(stored), object, "fields in the order of the stored form, whatever the map's order");
    let broken = Bytes::from_static(b"k8s\0\xff");
    assert_eq!(text(broken.clone()), broken);
    for text in [
        r#"{"kind":"Cron","apiVersion":"example.com/v1","metadata":{"name":"a"}}"#,
        r#"{"kind":"APIService","apiVersion":"apiregistration.k8s.io/v1","metadata":{"name":"v1."}}"#,
        "no object",
    ] {
        assert_eq!(write(text), text);
    }
}

#[test]
fn a_definition_in_the_stored_version_is_read_as_the_served_one() {
    let stored = r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{"name":"as.b"},"spec":{"group":"b","version":"v1","names":{"plural":"as","singular":"a","kind":"A","listKind":"AList"},"scope":"Cluster","validation":{"openAPIV3Schema":{"type":"object"}},"subresources":{"status":{}},"versions":[{"name":"v1","served":true,"storage":true},{"name":"v2","served":true,"storage":false}],"additionalPrinterColumns":[{"name":"Age","type":"date","JSONPath":".x"}],"conversion":{"strategy":"Webhook","webhookClientConfig":{"url":"https://a"},"conversionReviewVersions":["v1"]},"preserveUnknownFields":false}}"#;
    let read: Value = serde_json::from_slice(&text(Bytes::from_static(stored.as_bytes()))).unwrap();
    assert_eq!(read["apiVersion"], "apiextensions.k8s.io/v1");
    let spec = &read["spec"];
    for old in ["version", "validation", "subresources", "additionalPrinterColumns", "preserveUnknownFields"] {
        assert!(spec.get(old).is_none(), "{old}: {spec}");
    }
    for version in [&spec["versions"][0], &spec["versions"][1]] {
        assert_eq!(version["schema"], serde_json::json!({"openAPIV3Schema": {"type": "object"}}));
        assert_eq!(version["subresources"], serde_json::json!({"status": {}}));
        assert_eq!(version["additionalPrinterColumns"][0]["jsonPath"], ".x");
    }
    let webhook = serde_json::json!({"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]});
    assert_eq!(spec["conversion"], serde_json::json!({"strategy": "Webhook", "webhook": webhook}));
}

#[test]
fn fields_that_only_the_stored_version_has_are_not_shown() {
    let stored = r#"{"kind":"PodCertificateRequest","apiVersion":"certificates.k8s.io/v1beta1","metadata":{"name":"a"},"spec":{"podName":"p","pkixPublicKey":null}}"#;
    let read: Value = serde_json::from_slice(&text(Bytes::from_static(stored.as_bytes()))).unwrap();
    assert_eq!(read["apiVersion"], "certificates.k8s.io/v1");
    assert_eq!((read["spec"]["podName"].as_str(), read["spec"].get("pkixPublicKey")), (Some("p"), None));
}
