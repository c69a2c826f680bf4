//! Which objects a controller owns: those that refer to it and match its selector; it adopts matching ones that
//! nobody owns, and releases its own that match no longer.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt as _},
};
use reconcile::{Key, Object, controller_of, controller_ref};
use serde_json::json;

use crate::{
    Error,
    error::{During as _, Tolerate as _},
};

/// Reads a selector. One that selects everything selects nothing here: no controller may own all objects.
pub(crate) fn selector(of: &impl Resource<DynamicType = ()>, selector: &LabelSelector) -> Result<Selector, Error> {
    Selector::try_from(selector.clone())
        .map_err(|error| Error::Selector { object: Key::of(of).to_string(), reason: error.to_string() })
}

pub(crate) fn matches(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(labels.unwrap_or(&NONE))
}

/// What to do about objects. Pure.
#[derive(Debug)]
pub(crate) struct Claims<K> {
    pub(crate) owned: Vec<Arc<K>>,
    pub(crate) adopt: Vec<Arc<K>>,
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts objects of the owner's namespace, each with the controller it refers to.
pub(crate) fn sort<K: Resource>(
    owner: &ObjectMeta,
    objects: impl IntoIterator<Item = Arc<K>>,
    wanted: impl Fn(&K) -> bool,
) -> Claims<K> {
    let mut claims = Claims { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let ending = owner.deletion_timestamp.is_some();
    for object in objects {
        let matching = wanted(&object);
        match controller_of(object.meta()) {
            Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => {}
            Some(_) if matching => claims.owned.push(object),
            Some(_) if ending => {}
            Some(_) => claims.release.push(object),
            None if !matching || ending || object.meta().deletion_timestamp.is_some() => {}
            None => claims.adopt.push(object),
        }
    }
    claims
}

/// Adopts and releases, and returns what the owner owns then.
pub(crate) async fn settle<K, O>(client: &Client, owner: &O, claims: Claims<K>) -> Result<Vec<Arc<K>>, Error>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    settle_with(client, owner, claims, None).await
}

/// As [`settle`]; what is adopted gets the finalizer too, and what is released loses it.
pub(crate) async fn settle_with<K, O>(
    client: &Client,
    owner: &O,
    claims: Claims<K>,
    finalizer: Option<&str>,
) -> Result<Vec<Arc<K>>, Error>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    let Claims { mut owned, adopt, release } = claims;
    if adopt.is_empty() && release.is_empty() {
        return Ok(owned);
    }
    let namespace = owner.meta().namespace.clone().unwrap_or_default();
    let api = Api::<K>::namespaced(client.clone(), &namespace);
    for object in release {
        let mut patch = json!({"metadata": {
            "uid": object.meta().uid,
            "ownerReferences": [{"$patch": "delete", "uid": owner.meta().uid}],
        }});
        if let Some(finalizer) = finalizer {
            patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        match patch_object(&api, &*object, &patch).await {
            // It is another object by now, or was released meanwhile.
            Err(error) if matches!(error.status_code(), Some(404 | 422)) => {}
            done => done?,
        }
    }
    if !adopt.is_empty() {
        recheck(client, owner, &namespace).await?;
    }
    for object in adopt {
        let mut patch = json!({"metadata": {"uid": object.meta().uid, "ownerReferences": [controller_ref(owner)]}});
        if let Some(finalizer) = finalizer {
            patch["metadata"]["finalizers"] = json!([finalizer]);
        }
        if patch_object(&api, &*object, &patch).await.found()?.is_some() {
            owned.push(with_finalizer(object, finalizer));
        }
    }
    Ok(owned)
}

/// The object as the server has it by now.
fn with_finalizer<K: Object>(mut object: Arc<K>, finalizer: Option<&str>) -> Arc<K> {
    let has = |finalizer: &str| object.meta().finalizers.iter().flatten().any(|it| it == finalizer);
    if let Some(finalizer) = finalizer.filter(|finalizer| !has(finalizer)) {
        Arc::make_mut(&mut object).meta_mut().finalizers.get_or_insert_default().push(finalizer.to_owned());
    }
    object
}

async fn patch_object<K: Object>(api: &Api<K>, object: &K, patch: &serde_json::Value) -> Result<(), Error> {
    let name = object.meta().name.as_deref().unwrap_or_default();
    let patched = api.patch_metadata(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.map(drop).during("change the owner of", format_args!("{} {}", K::kind(&()), Key::of(object)))
}

/// The cache may be old: an owner that is gone or going must adopt nothing.
async fn recheck<O>(client: &Client, owner: &O, namespace: &str) -> Result<(), Error>
where
    O: Object + Resource<Scope = NamespaceResourceScope>,
{
    let name = owner.meta().name.clone().unwrap_or_default();
    let api = Api::<O>::namespaced(client.clone(), namespace);
    let fresh = api.get_metadata(&name).await.during("get", format_args!("{} {namespace}/{name}", O::kind(&())))?;
    if fresh.metadata.uid != owner.meta().uid {
        return Err(Error::Unfinished(format!("original {} {namespace}/{name} is gone", O::kind(&()))));
    }
    if fresh.metadata.deletion_timestamp.is_some() {
        return Err(Error::Unfinished(format!("{namespace}/{name} has just been deleted")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
