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
fn every_reference_has_its_schema() {
    let descriptions = Descriptions::read();
    for path in document_paths() {
        let document = build(&path, &descriptions).unwrap();
        let value: Value = serde_json::from_slice(&document.bytes).unwrap();
        let schemas = value["components"]["schemas"].as_object().unwrap();
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
