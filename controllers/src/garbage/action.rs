//! Requests about one object.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Client, api::DynamicObject};
use serde_json::Value;

use super::{
    Shared,
    graph::Suspect,
    merge,
    plan::{self, FOREGROUND, OwnerState},
};
use crate::{
    Error,
    discovery::Resource,
    error::{During as _, Tolerate as _},
};

/// An object as the server has it.
pub(super) struct Item {
    pub(super) meta: ObjectMeta,
    pub(super) suspect: Suspect,
}

pub(super) fn api(client: &Client, resource: &Resource, namespace: &str) -> Api<DynamicObject> {
    if resource.namespaced {
        Api::namespaced_with(client.clone(), namespace, &resource.api)
    } else {
        Api::all_with(client.clone(), &resource.api)
    }
}

pub(super) async fn patch(api: &Api<DynamicObject>, item: &Item, patch: &Value) -> Result<(), Error> {
    let patched = merge(api, &item.suspect.name, patch).await;
    patched.during("change", &item.suspect).found().map(drop)
}

pub(super) async fn remove_finalizer(api: &Api<DynamicObject>, item: &Item, finalizer: &str) -> Result<(), Error> {
    match plan::finalizer_patch(&item.meta, finalizer) {
        Some(change) => patch(api, item, &change).await,
        None => Ok(()),
    }
}

/// Asks the server about every owner of an object.
pub(super) async fn classify(shared: &Shared, item: &Item) -> Result<Vec<(OwnerReference, OwnerState)>, Error> {
    let mut known: HashMap<String, OwnerState> = HashMap::new();
    let mut owners = Vec::new();
    for owner in item.meta.owner_references.iter().flatten() {
        let state = match known.get(&owner.uid) {
            Some(state) => *state,
            None => state(shared, item, owner).await?,
        };
        known.insert(owner.uid.clone(), state);
        owners.push((owner.clone(), state));
    }
    Ok(owners)
}

async fn state(shared: &Shared, item: &Item, owner: &OwnerReference) -> Result<OwnerState, Error> {
    let Some(resource) = shared.monitors.find(&owner.api_version, &owner.kind) else {
        let what =
            format!("no resource is known for the owner {} {} of {}", owner.api_version, owner.kind, item.suspect);
        return Err(Error::Unfinished(what));
    };
    let namespace = item.meta.namespace.as_deref().unwrap_or_default();
    // An object outside of namespaces cannot belong to one inside: nothing would say in which. It is left alone.
    if resource.namespaced && namespace.is_empty() {
        return Ok(OwnerState::Solid);
    }
    let present = api(&shared.client, &resource, namespace).get_metadata(&owner.name).await;
    let present = present.during("get owner", format_args!("{} {namespace}/{}", owner.kind, owner.name)).found()?;
    let Some(present) = present.filter(|it| it.metadata.uid.as_ref() == Some(&owner.uid)) else {
        return Ok(OwnerState::Absent);
    };
    let waiting = present.metadata.deletion_timestamp.is_some()
        && present.metadata.finalizers.iter().flatten().any(|it| it == FOREGROUND);
    Ok(if waiting { OwnerState::Waiting } else { OwnerState::Solid })
}
