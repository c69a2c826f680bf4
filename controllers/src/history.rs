//! Former pod templates of an object, kept as controller revisions: so that `rollout undo` can bring them back, and
//! pods can be told apart by the template they were made of.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams},
    core::Selector,
};
use reconcile::{Informer, Key, Object, controller_of, controller_ref};
use serde_json::{Value, json};

use crate::{
    Error, claim,
    error::{During as _, Tolerate as _, status_code},
    template,
};

/// The revisions of one object.
pub(crate) struct History {
    /// The one with the present template.
    pub(crate) current: Arc<ControllerRevision>,
    /// The others, oldest first.
    pub(crate) old: Vec<Arc<ControllerRevision>>,
}

/// What tells revisions of one kind.
pub(crate) struct Snapshot<'a, O> {
    pub(crate) owner: &'a O,
    pub(crate) selector: &'a Selector,
    pub(crate) template: &'a PodTemplateSpec,
    pub(crate) collisions: Option<i32>,
    /// The label that repeats the hash.
    pub(crate) hash_label: &'static str,
}

/// A revision has the name of another but not its template: the owner has to count a collision.
#[derive(Debug)]
pub(crate) enum Failure {
    Collision,
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl<O: Object + Resource<Scope = NamespaceResourceScope>> Snapshot<'_, O> {
    /// Finds the revisions, and makes the current one if there is none.
    pub(crate) async fn history(
        &self,
        client: &Client,
        all: &Informer<ControllerRevision>,
    ) -> Result<History, Failure> {
        let namespace = self.owner.meta().namespace.clone().unwrap_or_default();
        let matching = |it: &ControllerRevision| claim::matches(self.selector, it.metadata.labels.as_ref());
        let claims = claim::sort(self.owner.meta(), all.list_in(&namespace), matching);
        let mut mine = claim::settle(client, self.owner, claims).await?;
        mine.sort_by_key(|it| order(it));
        let (mut current, old): (Vec<_>, Vec<_>) = mine.into_iter().partition(|it| self.is_current(it));
        let next = old.iter().map(|it| it.revision.unwrap_or(0)).max().unwrap_or(0) + 1;
        let api = Api::<ControllerRevision>::namespaced(client.clone(), &namespace);
        let current = match current.pop() {
            Some(current) if current.revision.unwrap_or(0) < next => renumber(&api, &current, next).await?,
            Some(current) => current,
            None => self.create(&api, next).await?,
        };
        Ok(History { current, old })
    }

    fn is_current(&self, revision: &ControllerRevision) -> bool {
        template_of(revision).is_some_and(|it| template::same(self.template, Some(&it)))
    }

    async fn create(&self, api: &Api<ControllerRevision>, number: i64) -> Result<Arc<ControllerRevision>, Failure> {
        let hash = template::hash(self.template, self.collisions);
        let owner = self.owner.meta();
        let name = format!("{}-{hash}", owner.name.as_deref().unwrap_or_default());
        let mut labels: BTreeMap<String, String> =
            self.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.insert(self.hash_label.to_owned(), hash);
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: owner.namespace.clone(),
                labels: Some(labels),
                annotations: owner.annotations.clone(),
                owner_references: Some(vec![controller_ref(self.owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(patch_of(self.template)),
            revision: Some(number),
        };
        let created = api.create(&PostParams::default(), &revision).await;
        if !matches!(&created, Err(error) if status_code(error) == Some(409)) {
            return Ok(created.map(Arc::new).during("create revision", name)?);
        }
        let present = api.get(&name).await.during("get revision", &name)?;
        let mine = controller_of(&present.metadata).map(|it| it.uid.clone()) == owner.uid;
        if mine && self.is_current(&present) { Ok(Arc::new(present)) } else { Err(Failure::Collision) }
    }
}

fn order(it: &ControllerRevision) -> (i64, Option<jiff::Timestamp>, Option<String>) {
    let created = it.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (it.revision.unwrap_or(0), created, it.metadata.name.clone())
}

async fn renumber(
    api: &Api<ControllerRevision>,
    present: &ControllerRevision,
    number: i64,
) -> Result<Arc<ControllerRevision>, Error> {
    let mut changed = present.clone();
    changed.revision = Some(number);
    let key = Key::of(present);
    api.replace(&key.name, &PostParams::default(), &changed).await.map(Arc::new).during("renumber revision", key)
}

/// What `rollout undo` patches its object with.
fn patch_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("a template is representable as JSON");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Deletes the oldest revisions beyond the limit, but none that is still in use.
pub(crate) async fn clean_up(
    client: &Client,
    namespace: &str,
    history: &History,
    limit: Option<i32>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let unused: Vec<_> = history.old.iter().filter(|it| !in_use(it)).collect();
    let surplus = history.old.len().saturating_sub(limit).min(unused.len());
    let api = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    for revision in &unused[..surplus] {
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        let deleted = api.delete(name, &DeleteParams::default()).await.map(drop);
        deleted.during("delete revision", format_args!("{namespace}/{name}")).found()?;
    }
    Ok(())
}
