//! Create.

use api::apply::Given;
use api::{Reason, Status, Value, meta};
use kinds::strategy::Generation;
use serde_json::json;
use store::{Error, Expect};

use super::call::Call;
use super::errors;
use super::fields::{self, Made};
use super::options::WriteOptions;
use super::special::Pending;
use super::write::{self, Admission, Written};
use crate::admission::Operation;

/// How many generated names are tried.
const NAME_ATTEMPTS_MAX: usize = 8;
/// A generated name's random end is put behind at most this much.
const NAME_BASE_MAX: usize = 58;
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const NAME_RANDOM: usize = 5;

impl Call<'_> {
    /// Creates a decoded object of the served version.
    pub(crate) async fn create_object(
        &self,
        mut object: Value,
        given: &Given,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        wipe_system_fields(&mut object);
        write::ensure_namespace(self, &mut object)?;
        write::dedup_owners(self, &mut object, false);
        let mut object = self.endpoint.working_of_client(object);
        write::default(self, &mut object);
        let managed = self.fields_of_new(&self.shape(), &object, given, options);
        fields::check(self, &object, given, Some(&managed))?;
        self.create_made(Made { object, managed: Some(managed) }, options).await
    }

    /// Creates a defaulted object of the version of the kind's rules.
    pub(crate) async fn create_made(&self, made: Made, options: &WriteOptions) -> Result<Written, Status> {
        let Made { object, managed } = made;
        let name = if self.path.name.is_empty() { meta::name(&object) } else { &self.path.name };
        let path = self.path_named(name);
        let admission = Admission {
            path: &path,
            kind: self.endpoint.table.kind,
            operation: Operation::Create,
            old: None,
            dry_run: options.dry_run,
        };
        let mut object = write::mutate(self, &admission, object).await?;
        write::dedup_owners(self, &mut object, true);
        self.insert(object, &managed.unwrap_or_default(), options).await
    }

    /// Stores an admitted object under its own or a generated name.
    async fn insert(&self, object: Value, managed: &[u8], options: &WriteOptions) -> Result<Written, Status> {
        let base = meta::text(&object, "generateName");
        if base.is_empty() || !meta::name(&object).is_empty() {
            return self.insert_named(object, managed, options).await;
        }
        let mut refused = None;
        for _ in 0..NAME_ATTEMPTS_MAX {
            let mut candidate = object.clone();
            let name = if self.endpoint.strategy.generates_names() { generated_name(base) } else { base.to_owned() };
            meta::set(&mut candidate, "name", name.into());
            match self.insert_named(candidate, managed, options).await {
                Err(status) if status.reason == Reason::AlreadyExists => refused = Some(status),
                outcome => return outcome,
            }
        }
        Err(refused.expect("at least one attempt was made"))
    }

    async fn insert_named(&self, object: Value, managed: &[u8], options: &WriteOptions) -> Result<Written, Status> {
        let (object, mut pending) = self.prepare_new(object, options).await?;
        let outcome = self.put_new(object, managed, &mut pending, options).await;
        let (written, pending) = pending.unless_failed(outcome).await?;
        pending.commit().await;
        Ok(written)
    }

    async fn put_new(
        &self,
        object: Value,
        managed: &[u8],
        pending: &mut Pending,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let object = write::finish(self, object)?;
        let collection = self.collection();
        let name = meta::name(&object).to_owned();
        let key = collection.key(meta::namespace(&object), &name)?;
        let raw = self.encode(&object, managed);
        if options.dry_run {
            return match self.load(&key).await? {
                Some(found) => Err(self.taken(&object, Some(&found.raw))),
                None => Ok(Written { raw, revision: 0 }),
            };
        }
        pending.send(self.store(&key, raw, Expect::Absent, options)).await.map_err(|error| match error {
            Error::Conflict { current, .. } => self.taken(&object, current.as_ref().map(|entry| &entry.value[..])),
            error => errors::write(&error, self.subject(&name, "create")),
        })
    }

    /// Fills, prepares and validates a new object, up to and including validating admission.
    pub(crate) async fn prepare_new(
        &self,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<(Value, Pending), Status> {
        meta::set(&mut object, "creationTimestamp", api::time::seconds(self.context.now).into());
        meta::set(&mut object, "uid", crate::request::random_uid().into());
        let pending = self.collection().hooks.begin_create(&mut object, options.dry_run).await?;
        let outcome = self.prepare_allocated(object, options).await;
        pending.unless_failed(outcome).await
    }

    async fn prepare_allocated(&self, mut object: Value, options: &WriteOptions) -> Result<Value, Status> {
        let strategy = self.endpoint.strategy;
        let request = self.strategy_request();
        write::ensure_namespace(self, &mut object)?;
        strategy.prepare_create(&mut object, &request);
        if strategy.generation() != Generation::None {
            meta::set(&mut object, "generation", json!(1));
        }
        let version = meta::resource_version(&object).to_owned();
        let errors = kinds::validate::create(strategy, &object, self.collection().namespaced, &request);
        self.refuse_invalid(meta::name(&object), &errors)?;
        write::warn(self, &object, None);
        let path = self.path_named(meta::name(&object));
        let admission = Admission {
            path: &path,
            kind: self.endpoint.table.kind,
            operation: Operation::Create,
            old: None,
            dry_run: options.dry_run,
        };
        let object = write::admit(self, &admission, object).await?;
        if !version.is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Status::new(Reason::Unknown(500), message));
        }
        Ok(object)
    }

    /// 409 for a name that is taken.
    pub(crate) fn taken(&self, object: &Value, found: Option<&[u8]>) -> Status {
        let table = self.endpoint.table;
        let mut status = Status::already_exists(table.group, table.name, meta::name(object));
        if !meta::text(object, "generateName").is_empty() {
            status.message.push_str(", the server was not able to generate a unique name for the object");
            status = status.retry_after(1);
        }
        let found: Option<Value> = found.and_then(|bytes| serde_json::from_slice(bytes).ok());
        if found.is_some_and(|found| meta::is_terminating(&found)) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    }
}

/// Removes what only the server sets.
pub(crate) fn wipe_system_fields(object: &mut Value) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta::set(object, field, Value::Null);
    }
}

fn generated_name(base: &str) -> String {
    let mut name: String = base.chars().take(NAME_BASE_MAX).collect();
    let letter = || char::from(NAME_LETTERS[rand::random_range(0..NAME_LETTERS.len())]);
    name.extend(std::iter::repeat_with(letter).take(NAME_RANDOM));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_have_upstreams_form() {
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert!(name.bytes().skip(4).all(|letter| NAME_LETTERS.contains(&letter)));
        assert_eq!(generated_name(&"a".repeat(80)).len(), 63);
    }
}
