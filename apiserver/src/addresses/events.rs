//! Events of the server's own controllers.

use api::{Value, meta};
use serde_json::json;

use crate::objects::{Manager, Objects, Ref};

/// Where events about objects without a namespace live.
const DEFAULT_NAMESPACE: &str = "default";

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) reason: String,
    /// What was attempted; None for a controller that speaks as the core group's events do.
    pub(crate) action: Option<&'static str>,
    pub(crate) message: String,
}

/// Records a warning about an object. A warning that cannot be recorded is logged: it must not hold up what it tells of.
pub(crate) async fn warn(objects: &dyn Objects, controller: &'static str, about: &Value, warning: &Warning) {
    tracing::warn!(controller, object = meta::name(about), reason = warning.reason, "{}", warning.message);
    let event = event(controller, about, warning);
    let namespace = meta::namespace(&event).to_owned();
    let collection = Ref::collection("", "events", &namespace);
    if let Err(error) = objects.create(collection, event, Manager::SERVER).await {
        tracing::debug!(%error, controller, "cannot record an event");
    }
}

fn event(controller: &'static str, about: &Value, warning: &Warning) -> Value {
    let now = daemon::clock::now();
    let namespace = Some(meta::namespace(about)).filter(|namespace| !namespace.is_empty());
    // A name has no room for the colons of an address.
    let name = format!("{}.{:x}", meta::name(about).replace(':', "-"), now.as_nanosecond());
    let mut event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace.unwrap_or(DEFAULT_NAMESPACE)},
        "involvedObject": {
            "apiVersion": about.get("apiVersion"), "kind": about.get("kind"), "name": meta::name(about),
            "namespace": namespace, "uid": meta::uid(about), "resourceVersion": meta::resource_version(about),
        },
        "reason": warning.reason, "message": warning.message, "type": "Warning",
        "reportingComponent": controller,
    });
    match warning.action {
        Some(action) => {
            event["action"] = action.into();
            event["eventTime"] = api::time::micros(now).into();
            event["reportingInstance"] = controller.into();
        }
        None => {
            let now = api::time::seconds(now);
            event["source"] = json!({"component": controller});
            event["firstTimestamp"] = now.clone().into();
            event["lastTimestamp"] = now.into();
            event["count"] = 1.into();
        }
    }
    event
}
