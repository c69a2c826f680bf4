//! PodTopologyLabels: a pod carries the zone and region of its node.

use api::{Map, Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels(pub(super) Handle);

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && (attributes.is("", "pods") || attributes.is_part("", "pods", "binding") || attributes.is("", "bindings"))
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let is_pod = attributes.is("", "pods");
        let Some(object) = attributes.object.as_mut() else {
            return Ok(());
        };
        let pointer = if is_pod { "/spec/nodeName" } else { "/target/name" };
        let kind = meta::find(object, "/target/kind").and_then(Value::as_str).unwrap_or("Node");
        let node =
            meta::find(object, pointer).and_then(Value::as_str).filter(|node| !node.is_empty() && kind == "Node");
        let Some(node) = node.and_then(|node| self.0.get().get(Ref::cluster("", "nodes", node))) else {
            return Ok(());
        };
        for label in LABELS {
            if let Some(value) = meta::label(&node, label) {
                let labels = meta::metadata_mut(object).entry("labels").or_insert_with(|| Value::Object(Map::new()));
                labels[label] = value.into();
            }
        }
        Ok(())
    }
}
