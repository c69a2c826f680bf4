//! Update: the guaranteed update behind PUT, PATCH and the subresources that write the object.

use api::apply::Given;
use api::field::{ErrorKind, FieldErrors, Path};
use api::{Reason, Status, Value, meta};
use bytes::Bytes;
use kinds::strategy::Generation;
use kinds::validate::SubresourceChange;
use store::{Error, Expect, Key, UPDATE_ATTEMPTS_MAX};

use super::call::Call;
use super::create;
use super::errors;
use super::fields::{Current, Made};
use super::object;
use super::options::{self, WriteOptions};
use super::special::{self, Pending};
use super::write::{self, Admission, Written};
use crate::admission::Operation;
use crate::authorize::{Attributes, Resource, Target};
use crate::request::ResourcePath;

/// Makes the new object out of the stored one, both in the version of the kind's rules; called again after a conflict.
pub(crate) type Make<'m> = &'m (dyn Fn(&Current<'_>) -> Result<Made, Status> + Send + Sync);

/// What an update does when there is no object.
pub(crate) enum Create<'m> {
    /// It is refused.
    Never,
    /// This object of the served version is created, where the kind allows it.
    Object(&'m Value, &'m Given),
    /// What this makes is created.
    Applied(&'m (dyn Fn() -> Result<Made, Status> + Send + Sync)),
}

/// What an update does.
pub(crate) struct Change<'m> {
    pub(crate) make: Make<'m>,
    /// The UID that the stored object has to have.
    pub(crate) uid: Option<&'m str>,
    pub(crate) create: Create<'m>,
    pub(crate) options: &'m WriteOptions,
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) written: Written,
    pub(crate) created: bool,
}

enum Step {
    Done(Outcome),
    /// The key is in another state by now.
    Again,
}

impl Call<'_> {
    /// Changes the object of this request's path, as often as others change it meanwhile.
    pub(crate) async fn update_object(&self, change: &Change<'_>) -> Result<Outcome, Status> {
        let collection = self.collection();
        let key = collection.key(&self.path.namespace, &self.path.name)?;
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            // The store and not the cache: a stale state would have to be asked about twice to refuse or to do nothing.
            let current = self.load(&key).await?;
            if let Step::Done(outcome) = self.attempt(change, &key, current.as_ref()).await? {
                return Ok(outcome);
            }
        }
        Err(Status::modified(self.endpoint.table.group, self.endpoint.table.name, &self.path.name))
    }

    /// Changes the object of a path without asking its strategy or admission, which the caller has done in its way.
    pub(crate) async fn modify(
        &self,
        path: &ResourcePath,
        dry_run: bool,
        change: impl Fn(&mut Value) -> Result<(), Status> + Send + Sync,
    ) -> Result<Written, Status> {
        let collection = self.collection();
        let key = collection.key(&path.namespace, &path.name)?;
        let subject = self.subject(&path.name, "update");
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let Some(current) = self.load(&key).await? else { return Err(self.not_found(&path.name)) };
            let mut object = collection.unmanaged(&current.raw, current.revision)?;
            change(&mut object)?;
            let raw = collection.head.encode(&object, object::managed(&current.raw));
            if dry_run || raw == current.raw {
                return Ok(Written { raw, revision: current.revision });
            }
            let expect = Expect::Revision(current.revision);
            match self.registry.store.put(key.clone(), raw.clone(), expect, collection.hooks.ttl()).await {
                Ok(revision) => return Ok(Written { raw, revision }),
                Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(errors::write(&error, subject)),
            }
        }
        Err(Status::modified(collection.group, collection.resource, &path.name))
    }

    async fn attempt(&self, change: &Change<'_>, key: &Key, current: Option<&Written>) -> Result<Step, Status> {
        let Some(current) = current else { return self.create_missing(change, key).await };
        let old = self.tree(current)?;
        self.check_uid(change, &old, key)?;
        let Made { object: new, managed } = (change.make)(&Current { object: &old, managed: current.managed()? })?;
        let admission = Admission {
            path: self.path,
            kind: self.endpoint.table.kind,
            operation: Operation::Update,
            old: Some(&old),
            dry_run: change.options.dry_run,
        };
        let mut new = write::mutate(self, &admission, new).await?;
        write::dedup_owners(self, &mut new, true);
        self.check_version(&mut new, current.revision)?;
        let mut pending = self.prepare_change(&mut new, &old, change.options).await?;
        let place = (key, current);
        let outcome = self.store_change((new, &mut pending), managed.as_deref(), &admission, change, place).await;
        let (step, pending) = pending.unless_failed(outcome).await?;
        match &step {
            Step::Done(_) => pending.commit().await,
            Step::Again => pending.undo().await,
        }
        Ok(step)
    }

    /// Admits a prepared change, which has taken what it needs, and stores it.
    async fn store_change(
        &self,
        (new, pending): (Value, &mut Pending),
        managed: Option<&[u8]>,
        admission: &Admission<'_>,
        change: &Change<'_>,
        (key, current): (&Key, &Written),
    ) -> Result<Step, Status> {
        write::warn(self, &new, admission.old);
        let new = write::finish(self, write::admit(self, admission, new).await?)?;
        if admission.old.is_some_and(|old| self.deletes(&new, old)) {
            let raw = self.encode(&new, managed.unwrap_or_else(|| object::managed(&current.raw)));
            return self.delete_emptied((new, raw), change, key, current.revision).await;
        }
        let raw = self.new_state(&new, managed, current);
        self.put_changed((raw, pending), change, key, current).await
    }

    /// The new state as it is stored; the old one when nothing but times of managed fields would change.
    fn new_state(&self, new: &Value, managed: Option<&[u8]>, current: &Written) -> Bytes {
        let before = object::managed(&current.raw);
        let Some(managed) = managed else { return self.encode(new, before) };
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        if api::apply::differ_in_times_only(text(before), text(managed)) {
            let same = self.encode(new, before);
            if same == current.raw {
                return same;
            }
        }
        self.encode(new, managed)
    }

    async fn put_changed(
        &self,
        (raw, pending): (Bytes, &mut Pending),
        change: &Change<'_>,
        key: &Key,
        current: &Written,
    ) -> Result<Step, Status> {
        let unchanged = raw == current.raw;
        if unchanged || change.options.dry_run {
            let written = Written { raw, revision: current.revision };
            return Ok(Step::Done(Outcome { written, created: false }));
        }
        let expect = Expect::Revision(current.revision);
        match pending.send(self.store(key, raw, expect, change.options)).await {
            Ok(written) => Ok(Step::Done(Outcome { written, created: false })),
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(Step::Again),
            Err(error) => Err(errors::write(&error, self.subject(&self.path.name, "update"))),
        }
    }

    async fn create_missing(&self, change: &Change<'_>, key: &Key) -> Result<Step, Status> {
        let allowed = self.endpoint.strategy.allow_create_on_update();
        let whole = self.path.subresource.is_empty();
        let written = match &change.create {
            Create::Object(object, given) if allowed && whole => {
                if let Some(uid) = change.uid {
                    return Err(self.uid_conflict(key, uid, ""));
                }
                self.authorize_create()?;
                let mut object = (*object).clone();
                // Upstream refuses a version on an object that does not exist as a conflict with nothing.
                meta::set(&mut object, "resourceVersion", Value::Null);
                self.create_object(object, given, change.options).await
            }
            Create::Applied(make) if whole => {
                let mut made = make()?;
                self.authorize_create()?;
                options::parse_version(meta::resource_version(&made.object))?;
                create::wipe_system_fields(&mut made.object);
                meta::set(&mut made.object, "resourceVersion", Value::Null);
                self.create_made(made, change.options).await
            }
            _ => return Err(self.not_found(&self.path.name)),
        };
        match written {
            Ok(written) => Ok(Step::Done(Outcome { written, created: true })),
            Err(status) if status.reason == Reason::AlreadyExists => Ok(Step::Again),
            Err(status) => Err(status),
        }
    }

    /// A PUT that creates needs the permission to create.
    fn authorize_create(&self) -> Result<(), Status> {
        let (path, user) = (self.path, &*self.context.user);
        let resource = Resource {
            group: &path.group,
            version: &path.version,
            namespace: &path.namespace,
            resource: &path.resource,
            subresource: &path.subresource,
            name: &path.name,
            ..Resource::default()
        };
        let attributes = Attributes { user, verb: "create", target: Target::Resource(resource) };
        let ruling = self.registry.authorizer.authorize(&attributes);
        if ruling.is_allowed() {
            return Ok(());
        }
        Err(crate::authorize::forbidden(&attributes, &ruling.reason))
    }

    fn check_uid(&self, change: &Change<'_>, old: &Value, key: &Key) -> Result<(), Status> {
        match change.uid {
            Some(uid) if uid != meta::uid(old) => Err(self.uid_conflict(key, uid, meta::uid(old))),
            _ => Ok(()),
        }
    }

    pub(crate) fn uid_conflict(&self, key: &Key, asked: &str, found: &str) -> Status {
        let table = self.endpoint.table;
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
        );
        Status::conflict(table.group, table.name, &self.path.name, &why)
    }

    /// The version that the new object names is the stored one; none is fine where the kind allows it.
    fn check_version(&self, new: &mut Value, revision: u64) -> Result<(), Status> {
        let table = self.endpoint.table;
        let given = meta::resource_version(new);
        if given.is_empty() || given == "0" {
            if self.endpoint.strategy.allow_unconditional_update() {
                meta::set(new, "resourceVersion", revision.to_string().into());
                return Ok(());
            }
            let mut errors = FieldErrors::new();
            let metadata = Path::new("metadata");
            let message = "Invalid value: 0: must be specified for an update";
            errors.push(ErrorKind::Invalid, &metadata.child("resourceVersion"), message);
            return Err(Status::invalid(table.group, table.name, &self.path.name, &errors));
        }
        if options::parse_version(given)? == revision {
            return Ok(());
        }
        Err(Status::modified(table.group, table.name, &self.path.name))
    }

    /// Keeps what a client does not decide, allocates, and validates.
    async fn prepare_change(&self, new: &mut Value, old: &Value, options: &WriteOptions) -> Result<Pending, Status> {
        // A part of an object is written by the rules of the whole.
        let whole = special::part(&self.path.group, &self.path.resource, &self.path.subresource).is_some();
        let subresource = if whole { "" } else { self.path.subresource.as_str() };
        if !subresource.is_empty() {
            self.prepare_allocated_change(subresource, new, old)?;
            return Ok(Pending::nothing());
        }
        let pending = self.collection().hooks.begin_update(new, old, options.dry_run).await?;
        let outcome = self.prepare_allocated_change(subresource, new, old);
        pending.unless_failed(outcome).await.map(|((), pending)| pending)
    }

    fn prepare_allocated_change(&self, subresource: &str, new: &mut Value, old: &Value) -> Result<(), Status> {
        let strategy = self.endpoint.strategy;
        let request = self.strategy_request();
        write::ensure_namespace(self, new)?;
        let generation = meta::metadata(old).and_then(|m| m.get("generation")).cloned().unwrap_or_default();
        meta::set(new, "generation", generation);
        let version = meta::resource_version(new).to_owned();
        if subresource.is_empty() {
            strategy.prepare_update(new, old, &request);
        } else {
            strategy.prepare_subresource(subresource, new, old, &request);
        }
        meta::set(new, "resourceVersion", version.into());
        bump_generation(strategy.generation(), new, old);
        keep_system_fields(new, old);
        let namespaced = self.collection().namespaced;
        let errors = if subresource.is_empty() {
            kinds::validate::update(strategy, new, old, namespaced, &request)
        } else {
            kinds::validate::subresource(strategy, SubresourceChange { subresource, new, old }, namespaced, &request)
        };
        self.refuse_invalid(meta::name(new), &errors)
    }

    /// The last finalizer of a deleted object has gone.
    fn deletes(&self, new: &Value, old: &Value) -> bool {
        let grace = meta::metadata(old).and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64);
        meta::finalizers(new).next().is_none()
            && meta::is_terminating(old)
            && grace.unwrap_or(0) == 0
            && self.collection().hooks.may_go(new)
    }

    async fn delete_emptied(
        &self,
        (new, raw): (Value, Bytes),
        change: &Change<'_>,
        key: &Key,
        revision: u64,
    ) -> Result<Step, Status> {
        if !change.options.dry_run {
            match self.registry.store.delete(key.clone(), Expect::Revision(revision)).await {
                Ok(_) => self.collection().hooks.deleted(&new).await,
                Err(Error::NotFound { .. }) => {}
                Err(Error::Conflict { .. }) => return Ok(Step::Again),
                Err(error) => return Err(errors::write(&error, self.subject(&self.path.name, "delete"))),
            }
        }
        Ok(Step::Done(Outcome { written: Written { raw, revision }, created: false }))
    }
}

/// Moves `metadata.generation`, which is the old one so far.
fn bump_generation(rule: Generation, new: &mut Value, old: &Value) {
    let changed = match rule {
        Generation::None => false,
        Generation::Spec => !kinds::tree::same_at(new, old, "spec"),
        Generation::Content => content_changed(new, old),
    };
    if changed {
        let generation = meta::generation(old) + 1;
        meta::set(new, "generation", generation.into());
    }
}

fn content_changed(new: &Value, old: &Value) -> bool {
    let apart = |name: &String| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status");
    let names = |object: &Value| object.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect::<Vec<_>>();
    names(new).iter().chain(&names(old)).filter(|name| apart(name)).any(|name| !kinds::tree::same_at(new, old, name))
}

/// What an update never changes.
fn keep_system_fields(new: &mut Value, old: &Value) {
    let of_old = |field: &str| meta::metadata(old).and_then(|m| m.get(field)).cloned().unwrap_or_default();
    if meta::uid(new).is_empty() {
        meta::set(new, "uid", of_old("uid"));
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if !of_old(field).is_null() {
            meta::set(new, field, of_old(field));
        }
    }
    let has_grace = meta::metadata(new).is_some_and(|m| m.contains_key("deletionGracePeriodSeconds"));
    if !has_grace {
        meta::set(new, "deletionGracePeriodSeconds", of_old("deletionGracePeriodSeconds"));
    }
}
