//! Keeps a block of service addresses until no address would be left without a block, and says whether addresses may be
//! taken from it.
//!
//! A block that is being deleted is no longer taken from, but servers learn of that at their own pace: it stays a little
//! longer than its last address.

mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use reconcile::{Change, EventType, Informer, Queue, Recorder};
use serde_json::{Value, json};

use self::plan::{Condition, FINALIZER, Step};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const CONTROLLER: &str = "service-cidr-controller";
const WORKERS: usize = 5;

struct Controller {
    api: Api<ServiceCIDR>,
    recorder: Recorder,
    blocks: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let controller = Controller {
        api: Api::all(context.client.clone()),
        recorder: context.recorder(CONTROLLER),
        blocks: context.informer(),
        addresses: context.informer(),
    };
    let queue = Queue::<String>::new();
    let (changed, all) = (queue.clone(), controller.blocks.clone());
    controller.blocks.handle(move |change| {
        changed.add(change.object().name_any());
        // A new block may hold the addresses of one that wants to go.
        if matches!(change, Change::Added(_)) {
            all.list().iter().filter(|block| plan::is_going(block)).for_each(|block| changed.add(block.name_any()));
        }
    });
    let (changed, all) = (queue.clone(), controller.blocks.clone());
    controller.addresses.handle(move |change| {
        let address = change.object();
        let concerned = |block: &ServiceCIDR| plan::is_going(block) && plan::holds(block, address);
        if !matches!(change, Change::Updated { .. }) {
            all.list().iter().filter(|block| concerned(block)).for_each(|block| changed.add(block.name_any()));
        }
    });
    controller.blocks.synced().await;
    controller.addresses.synced().await;
    context.work(CONTROLLER, &queue, WORKERS, |name| controller.sync(name)).await;
    Ok(())
}

impl Controller {
    async fn sync(&self, name: String) -> Result<Option<Duration>, Error> {
        let Some(block) = self.blocks.get("", &name) else { return Ok(None) };
        let steps = plan::plan(&block, &self.blocks.list(), &self.addresses.list(), daemon::clock::now());
        for step in steps {
            match step {
                Step::GiveFinalizer => self.patch(&name, json!({"finalizers": [FINALIZER]})).await?,
                Step::TakeFinalizer => {
                    self.patch(&name, json!({"$deleteFromPrimitiveList/finalizers": [FINALIZER]})).await?;
                }
                Step::Say(condition) => self.say(&block, condition).await?,
                Step::Wait(time) => return Ok(Some(time)),
            }
        }
        Ok(None)
    }

    async fn patch(&self, name: &str, metadata: Value) -> Result<(), Error> {
        let patch = Patch::Strategic(json!({"metadata": metadata}));
        let patched = self.api.patch(name, &PatchParams::default(), &patch).await;
        patched.during("patch the finalizers of ServiceCIDR", name).found().map(drop)
    }

    async fn say(&self, block: &ServiceCIDR, condition: Condition) -> Result<(), Error> {
        let name = block.name_any();
        let config = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "status": {"conditions": [condition.at(daemon::clock::now())]},
        });
        let params = PatchParams::apply(CONTROLLER).force();
        let applied = self.api.patch_status(&name, &params, &Patch::Apply(config)).await;
        let applied = applied.during("apply the status of ServiceCIDR", &name);
        if applied.is_err() && condition == Condition::Ready {
            let message = "The ServiceCIDR Status can not be set to Ready=True";
            self.recorder.event(block, EventType::Warning, "KubernetesServiceCIDRError", message);
        }
        applied.map(drop)
    }
}
