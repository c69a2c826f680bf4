//! TaintNodesByCondition: a new node takes no pods until its conditions have been looked at.

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};

const TAINT: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "nodes")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = attributes.object.as_mut() else {
            return Ok(());
        };
        let mut taints = api::meta::find(node, "/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
        if !taints.iter().any(|taint| taint["key"] == TAINT && taint["effect"] == "NoSchedule") {
            taints.push(json!({"key": TAINT, "effect": "NoSchedule"}));
            node["spec"]["taints"] = Value::Array(taints);
        }
        Ok(())
    }
}
