//! Makes the service account `default` in every namespace.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, ResourceExt as _, api::PostParams};
use reconcile::Queue;

use crate::{
    Error,
    context::Context,
    error::{During as _, is_namespace_terminating, status_code},
};

const NAME: &str = "default";
const WORKERS: usize = 5;

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<String>::new();
    let namespaces = context.informer::<Namespace>();
    let accounts = context.informer::<ServiceAccount>();
    let added = queue.clone();
    namespaces.handle(move |change| {
        if !change.is_deleted() {
            added.add(change.object().name_any());
        }
    });
    let deleted = queue.clone();
    accounts.handle(move |change| {
        let account = change.object();
        if change.is_deleted() && account.name_any() == NAME {
            deleted.add(account.namespace().unwrap_or_default());
        }
    });
    namespaces.synced().await;
    accounts.synced().await;
    let sync = |name: String| {
        let wanted = namespaces.get("", &name).is_some_and(|namespace| is_active(&namespace));
        let present = accounts.get(&name, NAME).is_some();
        let client = context.client.clone();
        async move {
            if wanted && !present {
                create(client, &name).await?;
            }
            Ok(None)
        }
    };
    context.work("serviceaccount-controller", &queue, WORKERS, sync).await;
    Ok(())
}

pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_none_or(|phase| phase == "Active")
}

async fn create(client: kube::Client, namespace: &str) -> Result<(), Error> {
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(NAME.to_owned());
    account.metadata.namespace = Some(namespace.to_owned());
    let api = Api::<ServiceAccount>::namespaced(client, namespace);
    match api.create(&PostParams::default(), &account).await {
        Err(error) if status_code(&error) == Some(409) || is_namespace_terminating(&error) => Ok(()),
        done => done.map(drop).during("create service account", format_args!("{namespace}/{NAME}")),
    }
}
