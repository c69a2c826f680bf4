//! Eviction: a deletion that respects disruption budgets.

use std::sync::Arc;

use api::selector::LabelSelector;
use api::{GroupVersionKind, Reason, Status, Value, meta};
use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use kinds::tree::{at, dig, enter, entry_count, int, list, put, text};
use serde_json::json;

use super::binding::set_condition;
use super::{Action, success};
use crate::admission::Operation;
use crate::answer::Response;
use crate::negotiate::Format;
use crate::objects::{Manager, Objects as _, Ref};
use crate::registry::call::Call;
use crate::registry::options::{DeleteOptions, WriteOptions};
use crate::registry::write::{self, Admission};

const GROUP: &str = "policy";
const BUDGETS: &str = "poddisruptionbudgets";
const CAUSE: &str = "DisruptionBudget";
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// More evictions that the controller has not seen yet are refused.
const DISRUPTED_PODS_MAX: usize = 2000;
/// How often a changed budget or pod is looked at again.
const ATTEMPTS_MAX: usize = 20;

/// `pods/eviction`.
pub(super) struct Evict;

#[async_trait]
impl Action for Evict {
    async fn run(
        &self,
        call: &Call<'_>,
        body: &[u8],
        format: Format,
        options: &WriteOptions,
    ) -> Result<Response, Status> {
        let mut eviction = decode(call, body, format, options)?;
        write::ensure_namespace(call, &mut eviction)?;
        if meta::name(&eviction) != call.path.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let admission = Admission {
            path: call.path,
            kind: "Eviction",
            operation: Operation::Create,
            old: None,
            dry_run: options.dry_run,
        };
        let eviction = write::mutate_part(call, &admission, eviction).await?;
        let eviction = write::admit(call, &admission, eviction).await?;
        let mut delete = DeleteOptions::from_tree(at(&eviction, "deleteOptions"))?;
        delete.dry_run |= options.dry_run;
        evict(call, &delete).await?;
        Ok(call.value(StatusCode::CREATED, &success(201)))
    }
}

fn decode(call: &Call<'_>, body: &[u8], format: Format, options: &WriteOptions) -> Result<Value, Status> {
    let beta = api::schema::interpret(body).is_ok_and(|meta| meta.api_version == "policy/v1beta1");
    let version = if beta { "v1beta1" } else { "v1" };
    let gvk = GroupVersionKind::new(GROUP, version, "Eviction");
    write::decode(call, body, format, &gvk, options.field_validation)
}

async fn evict(call: &Call<'_>, delete: &DeleteOptions) -> Result<(), Status> {
    for attempt in 1.. {
        let found = call.find().await?;
        let pod = call.tree(&found)?;
        let pinned = match check(call, &pod, delete.dry_run).await? {
            Allowed::Freely => false,
            Allowed::AsItIs => true,
        };
        let mut options = delete.clone();
        if pinned && options.resource_version.is_none() {
            options.resource_version = Some(meta::resource_version(&pod).to_owned());
        }
        match mark_and_delete(call, options).await {
            Err(status) if status.reason == Reason::Conflict && delete.resource_version.is_none() => {
                if attempt == ATTEMPTS_MAX {
                    return Err(status);
                }
            }
            outcome => return outcome,
        }
    }
    unreachable!("the last attempt returns")
}

/// How a pod may be deleted.
enum Allowed {
    /// Whatever becomes of it meanwhile.
    Freely,
    /// As long as it stays as it is: it may become healthy and then be protected.
    AsItIs,
}

async fn check(call: &Call<'_>, pod: &Value, dry_run: bool) -> Result<Allowed, Status> {
    let phase = text(at(pod, "status"), "phase");
    let over = matches!(phase, "Succeeded" | "Failed") || meta::is_terminating(pod);
    if over {
        return Ok(Allowed::Freely);
    }
    if phase == "Pending" {
        return Ok(Allowed::AsItIs);
    }
    let budgets = budgets_of(call, pod).await?;
    let name = match budgets.as_slice() {
        [] => return Ok(Allowed::Freely),
        [one] => meta::name(one).to_owned(),
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(Reason::Unknown(500), message));
        }
    };
    if !is_ready(pod) && allows_unhealthy(&budgets[0]) {
        return Ok(Allowed::AsItIs);
    }
    take_disruption(call, &name, meta::name(pod), dry_run).await?;
    Ok(Allowed::Freely)
}

async fn budgets_of(call: &Call<'_>, pod: &Value) -> Result<Vec<Arc<Value>>, Status> {
    let all = call.registry.list_newest(Ref::collection(GROUP, BUDGETS, meta::namespace(pod))).await?;
    let selects = |budget: &Value| {
        let selector = dig(budget, &["spec", "selector"]);
        !selector.is_null() && LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches_object(pod))
    };
    Ok(all.into_iter().filter(|budget| selects(budget)).collect())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = list(at(pod, "status"), "conditions");
    conditions.iter().any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
}

fn allows_unhealthy(budget: &Value) -> bool {
    if text(at(budget, "spec"), "unhealthyPodEvictionPolicy") == "AlwaysAllow" {
        return true;
    }
    let status = at(budget, "status");
    let desired = int(status, "desiredHealthy");
    int(status, "currentHealthy") >= desired && desired > 0
}

/// Takes one disruption off the budget, so that the controller need not see the eviction first.
async fn take_disruption(call: &Call<'_>, name: &str, pod: &str, dry_run: bool) -> Result<(), Status> {
    let budget = Ref::namespaced(GROUP, BUDGETS, &call.path.namespace, name);
    for _ in 0..ATTEMPTS_MAX {
        let found = call.registry.read(budget).await?;
        check_budget(&found)?;
        if dry_run {
            return Ok(());
        }
        let changed = taken(&found, pod, call.context.now);
        match call.registry.update(budget, "status", changed, Manager::SERVER).await {
            Err(status) if status.reason == Reason::Conflict => {}
            outcome => return outcome.map(drop),
        }
    }
    let message = format!("Timeout: couldn't update PodDisruptionBudget {name:?} due to conflicts");
    Err(Status::new(Reason::Timeout, message).retry_after(10))
}

fn taken(budget: &Value, pod: &str, now: Timestamp) -> Value {
    let mut changed = budget.clone();
    let status = enter(&mut changed, "status");
    let left = int(status, "disruptionsAllowed") - 1;
    put(status, "disruptionsAllowed", left);
    put(enter(status, "disruptedPods"), pod, api::time::seconds(now));
    if left == 0 {
        forbid_disruption(status, meta::generation(budget), now);
    }
    changed
}

fn forbid_disruption(status: &mut Value, generation: i64, now: Timestamp) {
    let mut wanted = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": generation, "lastTransitionTime": api::time::seconds(now),
    });
    let conditions = kinds::tree::object_mut(status).entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let Some(found) = conditions.iter_mut().find(|own| text(own, "type") == "DisruptionAllowed") else {
        conditions.push(wanted);
        return;
    };
    if text(found, "status") == "False" {
        put(&mut wanted, "lastTransitionTime", at(found, "lastTransitionTime").clone());
    }
    *found = wanted;
}

fn check_budget(budget: &Value) -> Result<(), Status> {
    let name = meta::name(budget);
    let status = at(budget, "status");
    if int(status, "observedGeneration") < meta::generation(budget) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Status::new(Reason::TooManyRequests, VIOLATES).with_cause(CAUSE, why, "").retry_after(10));
    }
    let forbid = |short: &str, why: &str| {
        let cause = format!("The disruption budget {name} does not allow evicting pods currently: {why}");
        Err(Status::forbidden(GROUP, "poddisruptionbudget", name, short).with_cause(CAUSE, cause, ""))
    };
    let allowed = int(status, "disruptionsAllowed");
    if allowed < 0 {
        return forbid("pdb disruptions allowed is negative", "pdb disruptions allowed is negative");
    }
    if entry_count(status, "disruptedPods") > DISRUPTED_PODS_MAX {
        let short = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return forbid(short, "too many pending evictions not confirmed by PDB controller");
    }
    if allowed > 0 {
        return Ok(());
    }
    let why = why_not(name, status);
    Err(Status::new(Reason::TooManyRequests, VIOLATES).with_cause(CAUSE, why, ""))
}

fn why_not(name: &str, status: &Value) -> String {
    let (current, desired) = (int(status, "currentHealthy"), int(status, "desiredHealthy"));
    let refused = list(status, "conditions").iter().find(|condition| {
        text(condition, "type") == "DisruptionAllowed"
            && text(condition, "status") == "False"
            && !text(condition, "message").is_empty()
    });
    match refused.map(|condition| (text(condition, "reason"), text(condition, "message"))) {
        Some(("SyncFailed", message)) => {
            format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
            )
        }
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        Some((reason, message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// Tells the pod why it goes, then deletes it.
async fn mark_and_delete(call: &Call<'_>, mut options: DeleteOptions) -> Result<(), Status> {
    let path = call.path_named(&call.path.name);
    if !options.dry_run {
        let now = call.context.now;
        let condition = json!({
            "type": "DisruptionTarget", "status": "True",
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        });
        let written = call
            .modify(&path, false, |pod| {
                call.check_preconditions(pod, &options)?;
                set_condition(enter(pod, "status"), &condition, now);
                Ok(())
            })
            .await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(written.revision.to_string());
        }
    }
    call.delete_unadmitted(&path, &options).await.map(drop)
}
