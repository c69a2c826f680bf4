//! Fills aggregated cluster roles with the rules of those that their selectors match.

mod plan;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use reconcile::Queue;
use serde_json::json;

use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 5;

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let roles = context.informer::<ClusterRole>();
    let queue = Queue::<String>::new();
    let (changed, all) = (queue.clone(), roles.clone());
    roles.handle(move |change| {
        // Any role may be part of any aggregated one: there are few of those.
        let aggregated = all.list().into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| changed.add(role.name_any()));
        if !change.is_deleted() && change.object().aggregation_rule.is_some() {
            changed.add(change.object().name_any());
        }
    });
    roles.synced().await;
    let sync = |name: String| {
        let role = roles.get("", &name);
        let wanted = role.and_then(|role| {
            let rules = plan::rules(&role, &roles.list());
            (rules != role.rules.clone().unwrap_or_default()).then_some((role, rules))
        });
        let api = Api::<ClusterRole>::all(context.client.clone());
        async move {
            if let Some((role, rules)) = wanted {
                let version = &role.metadata.resource_version;
                let patch = json!({"metadata": {"resourceVersion": version}, "rules": rules});
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
                patched.during("fill cluster role", &name).found()?;
            }
            Ok(None)
        }
    };
    context.work("clusterrole-aggregation-controller", &queue, WORKERS, sync).await;
    Ok(())
}
