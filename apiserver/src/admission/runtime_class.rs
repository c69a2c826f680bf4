//! RuntimeClass: a pod's runtime class adds its overhead and where it can run.

use std::sync::Arc;

use api::{Map, Reason, Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) struct RuntimeClass(pub(super) Handle);

impl RuntimeClass {
    async fn class(&self, attributes: &Attributes<'_>) -> Result<Option<Arc<Value>>, Status> {
        let name = attributes.object.as_ref().and_then(|pod| api::meta::find(pod, "/spec/runtimeClassName")?.as_str());
        let Some(name) = name else {
            return Ok(None);
        };
        let reference = Ref::cluster("node.k8s.io", "runtimeclasses", name);
        if let Some(class) = self.0.get().get(reference) {
            return Ok(Some(class));
        }
        match self.0.get().read(reference).await {
            Ok(class) => Ok(Some(class)),
            Err(error) if error.reason == Reason::NotFound => {
                Err(attributes.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")))
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(class) = self.class(attributes).await? else {
            return Ok(());
        };
        let Some(pod) = attributes.object.as_ref() else {
            return Ok(());
        };
        let mut pod = pod.clone();
        if let Some(overhead) = api::meta::find(&class, "/overhead/podFixed") {
            let own = api::meta::find(&pod, "/spec/overhead").and_then(Value::as_object).filter(|own| !own.is_empty());
            if own.is_some_and(|own| Some(own) != overhead.as_object()) {
                return Err(attributes.forbidden(MISMATCH));
            }
            pod["spec"]["overhead"] = overhead.clone();
        }
        if let Some(scheduling) = class.get("scheduling") {
            schedule(&mut pod, scheduling).map_err(|why| attributes.forbidden(&why))?;
        }
        attributes.object = Some(pod);
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let class = self.class(attributes).await?;
        let wanted = class.as_ref().and_then(|class| api::meta::find(class, "/overhead/podFixed"));
        let own = attributes.object.as_ref().and_then(|pod| api::meta::find(pod, "/spec/overhead"));
        match (wanted, own) {
            (Some(wanted), own) if own != Some(wanted) => Err(attributes.forbidden(MISMATCH)),
            (None, Some(_)) => Err(attributes
                .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
            _ => Ok(()),
        }
    }
}

fn schedule(pod: &mut Value, scheduling: &Value) -> Result<(), String> {
    let wanted = scheduling.get("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
    let own = api::meta::find(pod, "/spec/nodeSelector").and_then(Value::as_object).cloned();
    let mut selector: Map<String, Value> = own.unwrap_or_default();
    for (key, value) in wanted {
        if let Some(given) = selector.get(&key).filter(|given| **given != value) {
            let (given, value) = (given.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
            ));
        }
        selector.insert(key, value);
    }
    if !selector.is_empty() {
        pod["spec"]["nodeSelector"] = Value::Object(selector);
    }
    let more = scheduling.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = api::meta::find(pod, "/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for toleration in more {
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    if !all.is_empty() {
        pod["spec"]["tolerations"] = json!(all);
    }
    Ok(())
}
