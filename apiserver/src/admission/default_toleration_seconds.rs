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
        let own = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut all = own.clone();
        for (taint, seconds) in [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)] {
            if !own.iter().any(|toleration| tolerates(toleration, taint)) {
                all.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
                }));
            }
        }
        if all.len() > own.len() {
            pod["spec"]["tolerations"] = Value::Array(all);
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or_default();
    let key = text("key");
    (key == taint || key.is_empty()) && matches!(text("effect"), "NoExecute" | "")
}
