//! Priority: a pod's priority class becomes its priority.

use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const GROUP: &str = "scheduling.k8s.io";
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    objects: Handle,
}

impl Priority {
    pub(super) fn new(objects: Handle) -> Self {
        Self { objects }
    }

    fn class(&self, name: &str) -> Option<Arc<Value>> {
        self.objects.get().get(Ref::cluster(GROUP, "priorityclasses", name))
    }

    /// The default class: of several, the one with the lowest value, as upstream.
    fn default_class(&self) -> Option<Arc<Value>> {
        let classes = self.objects.get().list(Ref::collection(GROUP, "priorityclasses", ""));
        let defaults = classes.into_iter().filter(|class| is_default(class));
        defaults.min_by_key(|class| value_of(class))
    }

    fn admit_pod(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_ref() else {
            return Ok(());
        };
        let name = meta::find(pod, "/spec/priorityClassName").and_then(Value::as_str).unwrap_or_default();
        let class = match name {
            "" => self.default_class(),
            name => match self.class(name) {
                None => return Err(attributes.forbidden(&format!("no PriorityClass with name {name} was found"))),
                found => found,
            },
        };
        let name = class.as_ref().map_or_else(String::new, |class| meta::name(class).to_owned());
        let value = class.as_ref().map_or(0, |class| value_of(class));
        let policy = class.as_ref().and_then(|class| Some(class.get("preemptionPolicy")?.as_str()?.to_owned()));
        let policy = policy.unwrap_or_else(|| PREEMPT.to_owned());
        let spec = &pod["spec"];
        if spec.get("priority").and_then(Value::as_i64).is_some_and(|given| given != value) {
            let given = spec["priority"].as_i64().unwrap_or_default();
            return Err(attributes.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {value} from the given PriorityClass name"
            )));
        }
        if spec.get("preemptionPolicy").and_then(Value::as_str).is_some_and(|given| given != policy) {
            let given = spec["preemptionPolicy"].as_str().unwrap_or_default();
            return Err(attributes.forbidden(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )));
        }
        let Some(pod) = attributes.object.as_mut() else {
            return Ok(());
        };
        if !name.is_empty() {
            pod["spec"]["priorityClassName"] = json!(name);
        }
        pod["spec"]["priority"] = json!(value);
        pod["spec"]["preemptionPolicy"] = json!(policy);
        Ok(())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods") || attributes.is(GROUP, "priorityclasses"),
            Operation::Update => attributes.is("", "pods") || attributes.is(GROUP, "priorityclasses"),
            _ => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        if attributes.operation == Operation::Create {
            return self.admit_pod(attributes);
        }
        // An older client may send a pod back without what it does not know.
        let kept = |field: &str| attributes.old.and_then(|old| meta::find(old, &format!("/spec/{field}"))).cloned();
        let kept: Vec<_> = ["priority", "preemptionPolicy"].into_iter().filter_map(|f| Some((f, kept(f)?))).collect();
        if let Some(pod) = attributes.object.as_mut() {
            for (field, value) in kept {
                if pod["spec"].get(field).is_none() {
                    pod["spec"][field] = value;
                }
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(class) = attributes.object.as_ref().filter(|_| attributes.is(GROUP, "priorityclasses")) else {
            return Ok(());
        };
        if !is_default(class) {
            return Ok(());
        }
        let other = self.default_class().filter(|other| meta::name(other) != meta::name(class));
        match other {
            Some(other) => Err(attributes.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(&other)
            ))),
            None => Ok(()),
        }
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or(false)
}

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}
