//! `ImageLocality`: a node that has a pod's images already is better.

use std::sync::Arc;

use crate::{
    cache::Snapshot,
    framework::{MAX_SCORE, Plugin},
    model::{NodeInfo, PodInfo},
};

const MIB: i64 = 1024 * 1024;
/// Less than this is not worth a preference.
const MIN_BYTES: i64 = 23 * MIB;
/// What a container's images count at most.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * MIB;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> Option<Vec<i64>> {
        let total = snapshot.len().max(1);
        // An image on many nodes draws less, so that not all pods go where it was first.
        let spread =
            |image: &String, size: i64| (size as f64 * snapshot.image_spread(image) as f64 / total as f64) as i64;
        let present = |node: &Arc<NodeInfo>| -> i64 {
            pod.images.iter().filter_map(|image| Some(spread(image, *node.images.get(image)?))).sum()
        };
        let containers = i64::try_from(pod.containers).unwrap_or(1).max(1);
        let max = MAX_BYTES_PER_CONTAINER * containers;
        let score = |bytes: i64| MAX_SCORE * (bytes.clamp(MIN_BYTES, max) - MIN_BYTES) / (max - MIN_BYTES);
        Some(nodes.iter().map(|node| score(present(node))).collect())
    }
}
