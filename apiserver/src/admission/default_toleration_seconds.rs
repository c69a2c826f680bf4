//! DefaultTolerationSeconds: a pod stays for a while on a node that is not ready or cannot be reached.

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::config::AdmissionSettings;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

pub(super) struct DefaultTolerationSeconds {
    not_ready: i64,
    unreachable: i64,
}

impl DefaultTolerationSeconds {
    pub(super) fn new(settings: &AdmissionSettings) -> Self {
        Self { not_ready: settings.not_ready_seconds, unreachable: settings.unreachable_seconds }
    }
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.is("", "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_mut() else {
            return Ok(());
        };
        let own = api::meta::find(pod, "/spec/tolerations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let missing = [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)]
            .into_iter()
            .filter(|(taint, _)| !own.iter().any(|toleration| tolerates(toleration, taint)));
        let added: Vec<Value> = missing.map(|(taint, seconds)| toleration(taint, seconds)).collect();
        if added.is_empty() {
            return Ok(());
        }
        match &mut pod["spec"]["tolerations"] {
            Value::Array(all) => all.extend(added),
            none => *none = Value::Array(added),
        }
        Ok(())
    }
}

fn toleration(taint: &str, seconds: i64) -> Value {
    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
    let key = text("key");
    (key == taint || key.is_empty()) && matches!(text("effect"), "NoExecute" | "")
}
