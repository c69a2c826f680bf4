//! Definitions of custom resources as upstream stores them: in v1beta1, which has once what v1 has in every version.

use api::{GroupVersionKind, Value};
use serde_json::{Map, json};

/// What all versions share, and its name within a version.
const SHARED: &[(&str, &str)] = &[
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

pub(super) fn is_old(gvk: &GroupVersionKind) -> bool {
    gvk.group == "apiextensions.k8s.io" && gvk.version == "v1beta1" && gvk.kind == "CustomResourceDefinition"
}

/// Turns v1beta1 into v1.
pub(super) fn convert(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let version = spec.remove("version");
    let has_versions = spec.get("versions").and_then(Value::as_array).is_some_and(|versions| !versions.is_empty());
    if let (false, Some(name)) = (has_versions, version) {
        spec.insert("versions".to_owned(), json!([{"name": name, "served": true, "storage": true}]));
    }
    let shared: Vec<_> = SHARED.iter().filter_map(|(old, new)| Some((*new, spec.remove(*old)?))).collect();
    for version in spec.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(version) = version.as_object_mut() else { continue };
        for (name, value) in shared.iter().filter(|(_, value)| !value.is_null()) {
            version.insert((*name).to_owned(), value.clone());
        }
        version.get_mut("additionalPrinterColumns").into_iter().for_each(rename_paths);
    }
    // Absent is false in v1, and true in v1beta1.
    if spec.remove("preserveUnknownFields").is_none_or(|preserve| preserve != false) {
        spec.insert("preserveUnknownFields".to_owned(), true.into());
    }
    spec.get_mut("conversion").and_then(Value::as_object_mut).into_iter().for_each(nest_webhook);
}

fn rename_paths(columns: &mut Value) {
    for column in columns.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let path = column.remove("JSONPath");
        column.extend(path.map(|path| ("jsonPath".to_owned(), path)));
    }
}

fn nest_webhook(conversion: &mut Map<String, Value>) {
    let client = conversion.remove("webhookClientConfig").map(|client| ("clientConfig".to_owned(), client));
    let reviews = conversion.remove("conversionReviewVersions");
    let reviews = reviews.map(|versions| ("conversionReviewVersions".to_owned(), versions));
    let webhook: Map<String, Value> = client.into_iter().chain(reviews).filter(|(_, value)| !value.is_null()).collect();
    if !webhook.is_empty() {
        conversion.insert("webhook".to_owned(), webhook.into());
    }
}
