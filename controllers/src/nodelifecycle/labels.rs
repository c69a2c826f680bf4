//! Labels that repeat others under their former names. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

const COPIES: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// The copies that are missing or differ.
pub(super) fn missing(node: &Node) -> BTreeMap<&'static str, String> {
    let Some(labels) = &node.metadata.labels else { return BTreeMap::new() };
    let copy = |(from, to): (&str, &'static str)| {
        let value = labels.get(from)?;
        (labels.get(to) != Some(value)).then(|| (to, value.clone()))
    };
    COPIES.into_iter().filter_map(copy).collect()
}
