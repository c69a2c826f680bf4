//! Delete and deletecollection: preconditions, grace, finalizers, and what is answered.
//!
//! One guaranteed update decides: the object goes now, stays with a deletion time and its finalizers, or is left as it is.

use api::{GroupVersionKind, Status, Value, meta};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kinds::strategy::DefaultPropagation;
use serde_json::json;
use store::{Error, Expect, Key, UPDATE_ATTEMPTS_MAX};

use super::call::Call;
use super::errors;
use super::matcher::Matcher;
use super::object::{self, Stored};
use super::options::{DeleteOptions, ListOptions, Propagation};
use super::special::DeleteStep;
use super::write::{self, Admission, Written};
use super::yaml;
use crate::admission::Operation;
use crate::answer::Response;
use crate::negotiate::Format;
use crate::request::ResourcePath;

/// How many items of a collection are deleted at a time.
const COLLECTION_CONCURRENCY: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What became of a deletion.
pub(crate) enum Deletion {
    /// The object has gone; as it was last.
    Gone(Value),
    /// The object stays for now, as it is stored.
    Kept(Written),
    /// The object was on its way already.
    Pending(Written),
}

/// What is to be done with an object.
enum Plan {
    Remove,
    Store(Value),
    /// Stored with its end in it, so that watchers see it coming, then removed.
    StoreAndRemove(Value),
    Leave,
    /// Asked for already: answered like a finished deletion.
    Already,
}

impl Call<'_> {
    /// DELETE of one object.
    pub(crate) async fn delete(&self, body: &[u8], format: Format) -> Result<Response, Status> {
        let options = self.delete_options(body, format)?;
        let path = self.path.clone();
        let outcome = self.delete_named(&path, &options).await?;
        let kept = matches!(outcome, Deletion::Kept(_));
        let accepted = kept && options.orphan_dependents == Some(false);
        let code = if accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
        match outcome {
            Deletion::Kept(written) => self.object(code, &written.raw, written.revision),
            Deletion::Gone(object) => self.deleted(code, object),
            Deletion::Pending(written) => self.deleted(code, self.collection().tree(&written.raw, written.revision)?),
        }
    }

    fn deleted(&self, code: StatusCode, object: Value) -> Result<Response, Status> {
        if self.endpoint.strategy.returns_deleted_object() {
            return self.stored_tree(code, object);
        }
        let table = self.endpoint.table;
        let mut details = json!({ "name": meta::name(&object) });
        if !table.group.is_empty() {
            details["group"] = table.group.into();
        }
        details["kind"] = table.name.into();
        details["uid"] = meta::uid(&object).into();
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Ok(self.value(code, &status))
    }

    /// DELETE of a collection.
    pub(crate) async fn delete_collection(&self, body: &[u8], format: Format) -> Result<Response, Status> {
        let list = ListOptions::read(self.context, false)?;
        let options = self.delete_options(body, format)?;
        let matcher = Matcher::new(self.endpoint, &self.path.namespace, "", &list)?;
        let (meta, items) = self.select(&list, &matcher).await?;
        // Several at a time, so that one sync of the store serves them all.
        for some in items.chunks(COLLECTION_CONCURRENCY) {
            let deletions = some.iter().map(|item| self.delete_item(item, &options));
            futures::future::try_join_all(deletions).await?;
        }
        self.list(&meta, items)
    }

    /// Deletes an item of a collection; one that has gone meanwhile is as good.
    async fn delete_item(&self, item: &Stored, options: &DeleteOptions) -> Result<(), Status> {
        let tree = item.tree();
        let named = self.path_named(meta::name(&tree));
        let path = ResourcePath { namespace: meta::namespace(&tree).to_owned(), ..named };
        match self.delete_named(&path, options).await {
            Err(status) if status.reason == api::Reason::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn delete_options(&self, body: &[u8], format: Format) -> Result<DeleteOptions, Status> {
        if body.is_empty() {
            return DeleteOptions::from_query(self.context);
        }
        let gvk = GroupVersionKind::new("", "v1", "DeleteOptions");
        if format == Format::Protobuf {
            let body = api::protobuf::decode_body(body, &gvk)?;
            let gvk = &body.gvk;
            check_options(gvk.kind.as_str(), || gvk.api_version())?;
            return DeleteOptions::from_tree(&body.value);
        }
        let json;
        let text = match format {
            Format::Yaml => {
                let tree = yaml::read(body).map_err(|error| Status::bad_request(error.to_string()))?;
                json = tree.to_string();
                json.as_bytes()
            }
            _ => body,
        };
        let read = api::schema::interpret(text).map_err(Status::bad_request)?;
        check_options(read.kind.as_str(), || read.api_version.clone())?;
        let mut tree: Value = serde_json::from_slice(text).map_err(|error| Status::bad_request(error.to_string()))?;
        // DeleteOptions are the same in every group that has them.
        meta::as_object_mut(&mut tree).insert("apiVersion".to_owned(), "v1".into());
        let body = api::schema::decode_body(tree.to_string().as_bytes(), &gvk)?;
        DeleteOptions::from_tree(&body.value)
    }

    /// Deletes one object, through admission.
    pub(crate) async fn delete_named(&self, path: &ResourcePath, options: &DeleteOptions) -> Result<Deletion, Status> {
        self.delete_object(path, options, true).await
    }

    /// Deletes one object for a request that admission has already seen as another operation.
    pub(crate) async fn delete_unadmitted(
        &self,
        path: &ResourcePath,
        options: &DeleteOptions,
    ) -> Result<Deletion, Status> {
        self.delete_object(path, options, false).await
    }

    async fn delete_object(
        &self,
        path: &ResourcePath,
        options: &DeleteOptions,
        admit: bool,
    ) -> Result<Deletion, Status> {
        let collection = self.collection();
        let key = collection.key(&path.namespace, &path.name)?;
        if let Some(text) = collection.hooks.delete_warning(options) {
            self.context.warnings.add(text);
        }
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let Some(current) = self.load(&key).await? else { return Err(self.not_found(&path.name)) };
            let old = collection.tree(&current.raw, current.revision)?;
            let admission = Admission {
                path,
                kind: collection.kind,
                operation: Operation::Delete,
                old: Some(&old),
                dry_run: options.dry_run,
            };
            self.check_preconditions(&old, options)?;
            if admit {
                write::admit_delete(self, &admission).await?;
            }
            let plan = self.plan_deletion(&old, options);
            match self.carry_out(plan, &key, (current, old), options.dry_run).await {
                Ok(Some(deletion)) => return Ok(deletion),
                Ok(None) => {}
                Err(error) => return Err(errors::write(&error, self.subject(&path.name, "delete"))),
            }
        }
        Err(Status::modified(self.endpoint.table.group, self.endpoint.table.name, &path.name))
    }

    /// None when the object has changed meanwhile.
    async fn carry_out(
        &self,
        plan: Plan,
        key: &Key,
        (current, old): (Written, Value),
        dry_run: bool,
    ) -> Result<Option<Deletion>, Error> {
        let expect = Expect::Revision(current.revision);
        let outcome = match plan {
            Plan::Leave => Ok(Deletion::Kept(current)),
            Plan::Already => Ok(Deletion::Pending(current)),
            Plan::Remove if dry_run => Ok(Deletion::Gone(old)),
            Plan::Remove => match self.registry.store.delete(key.clone(), expect).await {
                Ok(deleted) => Ok(self.gone(old, deleted.revision).await),
                Err(error) => Err(error),
            },
            Plan::StoreAndRemove(new) if dry_run => Ok(Deletion::Gone(new)),
            Plan::StoreAndRemove(new) => self.remove_marked(key, new, &current).await,
            Plan::Store(new) => {
                let raw = self.collection().head.encode(&new, object::managed(&current.raw));
                if dry_run || raw == current.raw {
                    return Ok(Some(Deletion::Kept(Written { raw, revision: current.revision })));
                }
                let put =
                    self.registry.store.put(key.clone(), raw.clone(), expect, self.collection().hooks.ttl()).await;
                put.map(|revision| Deletion::Kept(Written { raw, revision }))
            }
        };
        match outcome {
            Ok(deletion) => Ok(Some(deletion)),
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What has to happen once an object has gone.
    async fn gone(&self, mut last: Value, revision: u64) -> Deletion {
        self.collection().hooks.deleted(&last).await;
        meta::set(&mut last, "resourceVersion", revision.to_string().into());
        Deletion::Gone(last)
    }

    async fn remove_marked(&self, key: &Key, new: Value, current: &Written) -> Result<Deletion, Error> {
        let raw = self.collection().head.encode(&new, object::managed(&current.raw));
        let (ttl, expect) = (self.collection().hooks.ttl(), Expect::Revision(current.revision));
        let marked = self.registry.store.put(key.clone(), raw, expect, ttl).await?;
        match self.registry.store.delete(key.clone(), Expect::Revision(marked)).await {
            Ok(deleted) => Ok(self.gone(new, deleted.revision).await),
            // Somebody who saw the mark was faster, such as the controller that collects pods: it has gone as asked.
            Err(Error::NotFound { .. }) => {
                let mut last = new;
                meta::set(&mut last, "resourceVersion", marked.to_string().into());
                Ok(Deletion::Gone(last))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn check_preconditions(&self, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
        let refuse = |field: &str, asked: &str, found: &str, why: &str| {
            let message = format!(
                "the {field} in the precondition ({asked}) does not match the {field} in record ({found}). The object might have been {why}"
            );
            let collection = self.collection();
            if let Some(message) = collection.hooks.precondition_failed(field, asked, found) {
                return Err(Status::conflict(collection.group, collection.resource, meta::name(old), &message));
            }
            Err(Status::conflict(collection.group, collection.kind, meta::name(old), &message))
        };
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(old)) {
            return refuse("UID", uid, meta::uid(old), "deleted and then recreated");
        }
        let found = meta::resource_version(old);
        if let Some(version) = options.resource_version.as_deref().filter(|version| *version != found) {
            return refuse("ResourceVersion", version, found, "modified");
        }
        Ok(())
    }

    fn plan_deletion(&self, old: &Value, options: &DeleteOptions) -> Plan {
        let now = self.context.now;
        let mut new = old.clone();
        match self.collection().hooks.delete_step(&mut new, options, now) {
            DeleteStep::Generic => {}
            DeleteStep::Keep => return Plan::Store(new),
            DeleteStep::Nothing => return Plan::Leave,
        }
        let grace = match self.grace(&mut new, options, now) {
            Grace::Pending => return Plan::Already,
            Grace::None => None,
            Grace::Set(seconds) => Some(seconds),
        };
        self.set_propagation(&mut new, options);
        let has_finalizers = meta::finalizers(&new).next().is_some();
        match grace {
            Some(seconds) if seconds > 0 || has_finalizers => Plan::Store(new),
            None if has_finalizers => {
                mark_deleting(&mut new, now);
                Plan::Store(new)
            }
            Some(_) => Plan::StoreAndRemove(new),
            None => Plan::Remove,
        }
    }

    /// Sets the time of a graceful deletion.
    fn grace(&self, object: &mut Value, options: &DeleteOptions, now: Timestamp) -> Grace {
        let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
        let Some(wanted) = self.endpoint.strategy.graceful_delete(object, asked) else { return Grace::None };
        if meta::is_terminating(object) {
            return shorten_grace(object, asked, now);
        }
        let at = now + SignedDuration::from_secs(wanted.seconds);
        meta::set(object, "deletionTimestamp", api::time::seconds(at).into());
        meta::set(object, "deletionGracePeriodSeconds", wanted.seconds.into());
        let generation = meta::generation(object);
        if generation > 0 {
            meta::set(object, "generation", (generation + 1).into());
        }
        Grace::Set(wanted.seconds)
    }

    /// Adds or removes the finalizers of the garbage collector.
    fn set_propagation(&self, object: &mut Value, options: &DeleteOptions) {
        let default = self.endpoint.strategy.default_propagation();
        let (orphan, foreground) = propagation(object, options, default);
        let mut finalizers: Vec<String> =
            meta::finalizers(object).filter(|f| !matches!(*f, ORPHAN | FOREGROUND)).map(str::to_owned).collect();
        if orphan {
            finalizers.push(ORPHAN.to_owned());
        }
        if foreground {
            finalizers.push(FOREGROUND.to_owned());
        }
        let mut wanted: Vec<&str> = finalizers.iter().map(String::as_str).collect();
        let mut found: Vec<&str> = meta::finalizers(object).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        if wanted != found {
            let finalizers = if finalizers.is_empty() { Value::Null } else { finalizers.into() };
            meta::set(object, "finalizers", finalizers);
        }
    }
}

enum Grace {
    /// The kind knows none, or it is over.
    None,
    /// A deletion that is under way already is not changed.
    Pending,
    Set(i64),
}

/// A deletion that is under way may only be made shorter.
fn shorten_grace(object: &mut Value, asked: Option<i64>, now: Timestamp) -> Grace {
    let metadata = meta::metadata(object);
    let left = metadata.and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(0);
    if left == 0 {
        return Grace::None;
    }
    let Some(asked) = asked.filter(|asked| *asked < left) else { return Grace::Pending };
    let planned = api::time::parse(meta::text(object, "deletionTimestamp")).unwrap_or(now);
    let moved = planned - SignedDuration::from_secs(left) + SignedDuration::from_secs(asked);
    let (at, seconds) = if moved < now { (now, asked.min(1)) } else { (moved, asked) };
    meta::set(object, "deletionTimestamp", api::time::seconds(at).into());
    meta::set(object, "deletionGracePeriodSeconds", seconds.into());
    Grace::Set(seconds)
}

/// Whether dependents are orphaned, and whether they go first.
fn propagation(object: &Value, options: &DeleteOptions, default: DefaultPropagation) -> (bool, bool) {
    if default == DefaultPropagation::Unsupported {
        return (false, false);
    }
    if let Some(orphan) = options.orphan_dependents {
        return (orphan, false);
    }
    match options.propagation {
        Some(Propagation::Orphan) => return (true, false),
        Some(Propagation::Background) => return (false, false),
        Some(Propagation::Foreground) => return (false, true),
        None => {}
    }
    match meta::finalizers(object).find(|f| matches!(*f, ORPHAN | FOREGROUND)) {
        Some(ORPHAN) => (true, false),
        Some(_) => (false, true),
        None => (default == DefaultPropagation::Orphan, false),
    }
}

/// The object waits for its finalizers.
fn mark_deleting(object: &mut Value, now: Timestamp) {
    let generation = meta::generation(object);
    if !meta::is_terminating(object) && generation > 0 {
        meta::set(object, "generation", (generation + 1).into());
    }
    let later = api::time::parse(meta::text(object, "deletionTimestamp")).is_none_or(|at| at > now);
    if later {
        meta::set(object, "deletionTimestamp", api::time::seconds(now).into());
    }
    meta::set(object, "deletionGracePeriodSeconds", 0.into());
}

/// Refuses a body of a deletion that says it is something else than its options.
fn check_options(kind: &str, version: impl Fn() -> String) -> Result<(), Status> {
    if matches!(kind, "" | "DeleteOptions") {
        return Ok(());
    }
    let (version, scheme) = (version(), "pkg/runtime/scheme.go:111");
    let message = format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}");
    Err(Status::bad_request(message))
}
