//! Objects that `kubectl apply` has written the old way: their configuration stands in an annotation.
//!
//! The manager `kubectl` may take over what its annotation says unchanged, and keeps the annotation up to date, so that
//! a user can go back.

use serde_json::{Map, Value};

use super::conflict::Conflict;
use super::track::Tracker;
use crate::meta;

/// The only manager for which this is done.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// The conflicts that the annotation does not allow; None when there is no usable annotation.
pub(super) fn conflicts_left(tracker: &Tracker<'_>, live: &Value, conflicts: Vec<Conflict>) -> Option<Vec<Conflict>> {
    let said = meta::annotation(live, ANNOTATION).filter(|text| !text.is_empty())?;
    let said: Value = serde_json::from_str(said).ok()?;
    let allowed = tracker.paths_said_unchanged(&said, live)?;
    Some(conflicts.into_iter().filter(|conflict| !allowed.contains(&conflict.path)).collect())
}

/// Puts the configuration into the annotation, if the object has one.
pub(super) fn renew(object: &mut Option<Value>, live: &Value, config: &Value) {
    let current = object.as_ref().unwrap_or(live);
    let Some(found) = meta::annotation(current, ANNOTATION).filter(|text| !text.is_empty()) else { return };
    let fresh = configuration(config);
    if found == fresh {
        return;
    }
    let annotations = meta::metadata_mut(object.get_or_insert_with(|| live.clone())).get_mut("annotations");
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.to_owned(), fresh.into());
    let size = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    if size.sum::<usize>() > MAX_ANNOTATIONS_BYTES {
        annotations.remove(ANNOTATION);
    }
}

/// The configuration as the annotation has it.
fn configuration(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(annotations) = meta::metadata_mut(&mut config).get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    if meta::metadata(&config).and_then(|m| m.get("annotations")).and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        meta::set(&mut config, "annotations", serde_json::json!({}));
    }
    // Go's encoder writes these so that the text may stand in a web page, and ends with a newline.
    let escaped = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    escaped.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029") + "\n"
}
