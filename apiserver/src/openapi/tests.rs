//! What clients read from the documents, and the hash rules.

use serde_json::Value;

use super::*;

fn parsed(path: &str) -> Value {
    let document = build(path, &Descriptions::read()).unwrap();
    serde_json::from_slice(&document.bytes).unwrap()
}

#[test]
fn the_index_lists_every_version_by_hash() {
    let index: Value = serde_json::from_slice(&index().bytes).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let hash = url.strip_prefix("/openapi/v3/apis/apps/v1?hash=").unwrap();
    assert_eq!(hash.len(), 128);
    match document("apis/apps/v1", Some(hash)) {
        Answer::Document { document, immutable } => assert_eq!((document.hash.as_str(), immutable), (hash, true)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(document("apis/apps/v1", Some("OLD")), Answer::Redirect(to) if to == url));
    assert!(matches!(document("apis/apps/v1", None), Answer::Document { immutable: false, .. }));
    assert!(matches!(document("apis/nothing/v1", None), Answer::NotFound));
}

#[test]
fn kubectl_finds_its_probe_and_its_texts() {
    let core = parsed("api/v1");
    let patch = &core["paths"]["/api/v1/namespaces/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Namespace"}));
    let names: Vec<_> =
        patch["parameters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(pod["x-kubernetes-patch-merge-key"], "name");
    assert!(pod["description"].as_str().is_some_and(|text| text.contains("containers")));
}

#[test]
fn documents_beside_the_groups_have_upstreams_form() {
    let version = parsed("version");
    let info = &version["components"]["schemas"]["io.k8s.apimachinery.pkg.version.Info"];
    assert_eq!(
        (info["properties"]["major"]["default"].as_str(), info["required"][8].as_str()),
        (Some(""), Some("platform"))
    );
    assert!(info["properties"]["emulationMajor"].get("default").is_none());
    let keys = parsed("openid/v1/jwks");
    let answer = &keys["paths"]["/openid/v1/jwks/"]["get"]["responses"]["200"]["content"]["application/jwk-set+json"];
    assert_eq!(answer["schema"]["type"], "string");
    assert!(keys["components"].get("schemas").is_none());
    let event = &parsed("apis/apps/v1")["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"];
    let object = event["properties"]["object"]["allOf"][0]["$ref"].as_str();
    assert_eq!(object, Some("#/components/schemas/io.k8s.apimachinery.pkg.runtime.RawExtension"));
}

#[test]
fn every_reference_has_its_schema() {
    let descriptions = Descriptions::read();
    for path in document_paths() {
        let document = build(&path, &descriptions).unwrap();
        let value: Value = serde_json::from_slice(&document.bytes).unwrap();
        let nothing = serde_json::Map::new();
        let schemas = value["components"]["schemas"].as_object().unwrap_or(&nothing);
        let mut open = vec![&value];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(entries) => {
                    if let Some(name) = entries.get("$ref").and_then(Value::as_str) {
                        let name = name.strip_prefix("#/components/schemas/").unwrap();
                        assert!(schemas.contains_key(name), "{path} lacks {name}");
                    }
                    open.extend(entries.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
}
