//! Managed fields in the write pipeline: who owns what after a write, and server-side apply.
//!
//! They travel apart from the object, as the text that is stored: see [`api::apply`] and [`super::object`].

use std::borrow::Cow;
use std::sync::Arc;

use api::apply::{self, Given, Tracker, Versions};
use api::schema::{self, TypeId};
use api::{GroupVersion, GroupVersionKind, Reason, Status, Value, meta};
use bytes::Bytes;

use super::call::Call;
use super::options::{FieldValidation, WriteOptions};
use super::special::Part;
use super::yaml::{self, Configuration};

/// The longest name of a manager.
const MANAGER_BYTES_MAX: usize = 128;

/// The stored object that a write starts from.
pub(crate) struct Current<'a> {
    /// In the version of the kind's rules, without managed fields.
    pub(crate) object: &'a Value,
    /// The text of its managed fields.
    pub(crate) managed: &'a str,
}

/// What a write makes of it, before admission.
pub(crate) struct Made {
    /// In the version of the kind's rules, without managed fields.
    pub(crate) object: Value,
    /// The text of its managed fields; None when they stay as they are.
    pub(crate) managed: Option<Bytes>,
}

/// The kind that a request reads and writes: the object's own, or that of a part of it.
pub(crate) struct Shape {
    pub(crate) gvk: GroupVersionKind,
    pub(crate) type_id: Option<TypeId>,
    pub(crate) part: Option<&'static dyn Part>,
}

/// The other versions in which a resource is served.
struct Served<'a> {
    call: &'a Call<'a>,
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, version: &str) -> Option<(Value, TypeId)> {
        let collection = &self.call.endpoint.collection;
        let endpoint = |version: &str| {
            let version = GroupVersion::parse(version)?;
            let found = self.call.registry.endpoint(&version.group, &version.version, collection.resource)?;
            Arc::ptr_eq(&found.collection, collection).then_some(found)
        };
        let own = endpoint(object.get("apiVersion").and_then(Value::as_str)?)?;
        let other = endpoint(version)?;
        // Upstream installs the core group with its own table of types: there the types of named groups are unknown.
        if own.table.group.is_empty() != other.table.group.is_empty() {
            return None;
        }
        let mut converted = other.served(own.stored(object.clone()));
        meta::as_object_mut(&mut converted).insert("apiVersion".to_owned(), other.api_version().into());
        Some((converted, other.table.type_id?))
    }
}

impl Call<'_> {
    /// Runs `work` with what follows this request's fields; None when the kind has no type.
    fn tracked<T>(&self, shape: &Shape, options: &WriteOptions, work: impl FnOnce(&Tracker<'_>) -> T) -> Option<T> {
        let (table, subresource) = (self.endpoint.table, self.path.subresource.as_str());
        let has_status = table.subresource("status").is_some();
        let manager = if options.field_manager.is_empty() {
            manager_of(&self.context.user_agent)
        } else {
            options.field_manager.as_str().into()
        };
        Some(work(&Tracker {
            gvk: &shape.gvk,
            type_id: shape.type_id?,
            subresource,
            manager: &manager,
            now: self.context.now,
            reset: kinds::reset::fields(table.group, table.name, subresource, has_status),
            versions: &Served { call: self },
        }))
    }

    /// An object in the version that the client speaks.
    fn client_view<'v>(&self, working: &'v Value) -> Cow<'v, Value> {
        match self.endpoint.conversion {
            None => Cow::Borrowed(working),
            Some(_) => Cow::Owned(self.endpoint.client_of_working(working.clone())),
        }
    }

    /// The managed fields of a new object, defaulted and not yet admitted.
    pub(crate) fn fields_of_new(&self, shape: &Shape, new: &Value, given: &Given, options: &WriteOptions) -> Bytes {
        let base = if let Given::Entries(text) = given { text.as_str() } else { "" };
        let new = self.client_view(new);
        self.tracked(shape, options, |tracker| tracker.create(&new, base)).unwrap_or_default().into()
    }

    /// The managed fields after an update; None when they stay as they are.
    pub(crate) fn fields_of_changed(
        &self,
        shape: &Shape,
        current: &Current<'_>,
        (new, given): (&Value, &Given),
        options: &WriteOptions,
    ) -> Option<Bytes> {
        // Through a subresource nobody can say who owns what.
        let given = if self.path.subresource.is_empty() { given } else { &Given::Nothing };
        let base = match given {
            Given::Nothing => current.managed,
            Given::Reset => "",
            Given::Entries(text) => text,
        };
        let (old, new) = (self.client_view(current.object), self.client_view(new));
        let update = |tracker: &Tracker<'_>| tracker.update(&old, &new, base);
        let changed = self.tracked(shape, options, update).flatten().map(Bytes::from);
        changed.or_else(|| (base != current.managed).then(|| Bytes::copy_from_slice(base.as_bytes())))
    }

    /// The managed fields of an object after a change of a part of it.
    pub(crate) fn fields_of_part(
        &self,
        shape: &Shape,
        current: &Current<'_>,
        (old, new): (&Value, &Value),
        options: &WriteOptions,
    ) -> Option<Bytes> {
        let is_known = |version: &str| self.is_version(version);
        let seen = text(apply::scale_of_parent(current.managed, &is_known));
        let changed = self.tracked(shape, options, |tracker| tracker.update(old, new, &seen)).flatten();
        let after = changed.map_or(seen, text);
        self.part_to_parent(current, &after)
    }

    fn part_to_parent(&self, current: &Current<'_>, part: &str) -> Option<Bytes> {
        let version = self.endpoint.api_version();
        let managed = apply::scale_to_parent(current.managed, part, &version, &|version| self.is_version(version));
        (managed != current.managed.as_bytes()).then(|| managed.into())
    }

    /// True for an API version in which this request's resource was ever served.
    fn is_version(&self, version: &str) -> bool {
        let group = self.endpoint.table.group;
        let given = GroupVersion::parse(version);
        given.is_some_and(|given| given.group == group || (group == "apps" && given.group == "extensions"))
    }

    /// Merges an applied configuration into the stored object, or into nothing.
    pub(crate) fn applied(
        &self,
        shape: &Shape,
        current: Option<&Current<'_>>,
        config: &Configuration,
        options: &WriteOptions,
    ) -> Result<Made, Status> {
        let id = shape.type_id.ok_or_else(|| self.not_applicable())?;
        let live = match current {
            Some(current) => shape.take_from(self, current.object)?,
            None => Cow::Owned(self.nothing(shape, id)),
        };
        let managed = current.map_or("", |current| current.managed);
        let seen = if shape.part.is_some() {
            Cow::Owned(text(apply::scale_of_parent(managed, &|version| self.is_version(version))))
        } else {
            Cow::Borrowed(managed)
        };
        let apply = |tracker: &Tracker<'_>| tracker.apply(&live, &config.tree, &seen, options.force);
        let applied = self.tracked(shape, options, apply).ok_or_else(|| self.not_applicable())??;
        self.report_repeated(config, options.field_validation)?;
        let merged = applied.object.unwrap_or_else(|| live.into_owned());
        if current.is_none() && !meta::uid(&merged).is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta::uid(&merged)
            );
            return Err(Status::conflict(self.endpoint.table.group, self.endpoint.table.name, &self.path.name, &why));
        }
        self.made(shape, current, merged, applied.managed)
    }

    /// Refuses or reports a key that a configuration has twice, which upstream looks for once it has been merged.
    fn report_repeated(&self, config: &Configuration, validation: FieldValidation) -> Result<(), Status> {
        let Some(line) = &config.repeated else { return Ok(()) };
        match validation {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                self.context.warnings.add(line.as_str());
                Ok(())
            }
            FieldValidation::Strict => Err(Status::bad_request(format!(
                "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  {line}"
            ))),
        }
    }

    fn made(
        &self,
        shape: &Shape,
        current: Option<&Current<'_>>,
        mut merged: Value,
        managed: Vec<u8>,
    ) -> Result<Made, Status> {
        super::write::ensure_namespace(self, &mut merged)?;
        super::write::ensure_name(&merged, &self.path.name)?;
        let nothing = Value::Null;
        let object = shape.put_into(self, current.map_or(&nothing, |current| current.object), merged)?;
        let managed = match current {
            Some(current) if shape.part.is_some() => self.part_to_parent(current, &text(managed)),
            Some(current) if managed == current.managed.as_bytes() => None,
            _ => Some(managed.into()),
        };
        Ok(Made { object, managed })
    }

    /// What is there before anything is said.
    fn nothing(&self, shape: &Shape, id: TypeId) -> Value {
        let mut nothing = schema::empty_object(id);
        let root = meta::as_object_mut(&mut nothing);
        root.insert("kind".to_owned(), shape.gvk.kind.as_str().into());
        root.insert("apiVersion".to_owned(), shape.gvk.api_version().into());
        nothing
    }

    fn not_applicable(&self) -> Status {
        let subresource = &self.path.subresource;
        Status::new(Reason::Unknown(501), format!("the subresource {subresource} is not served yet"))
    }
}

impl Shape {
    /// What is served of an object.
    pub(crate) fn take_from<'v>(&self, call: &Call<'_>, object: &'v Value) -> Result<Cow<'v, Value>, Status> {
        let Some(part) = self.part else { return Ok(call.client_view(object)) };
        let mut taken = part.of(object)?;
        let root = meta::as_object_mut(&mut taken);
        root.insert("kind".to_owned(), self.gvk.kind.as_str().into());
        root.insert("apiVersion".to_owned(), self.gvk.api_version().into());
        Ok(Cow::Owned(taken))
    }

    /// The object with what was served of it changed.
    pub(crate) fn put_into(&self, call: &Call<'_>, old: &Value, served: Value) -> Result<Value, Status> {
        let mut object = match self.part {
            Some(part) => part.into(old, &served)?,
            None => call.endpoint.working_of_client(served),
        };
        super::write::default(call, &mut object);
        Ok(object)
    }
}

/// Takes what a client says of managed fields out of its object. Decoding drops an empty list, so the body is asked.
pub(crate) fn take_given(object: &mut Value, body: &[u8]) -> Given {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let entries = metadata.and_then(|metadata| metadata.remove("managedFields"));
    if entries.is_none() && memchr::memmem::find(body, b"managedFields").is_some() {
        let tree: Option<Value> = serde_json::from_slice(body).or_else(|_| yaml::read(body)).ok();
        return Given::read(tree.as_ref().and_then(meta::metadata).and_then(|metadata| metadata.get("managedFields")));
    }
    Given::read(entries.as_ref())
}

/// Refuses managed fields with which a client's own would be stored invalid.
pub(crate) fn check(call: &Call<'_>, object: &Value, given: &Given, managed: Option<&Bytes>) -> Result<(), Status> {
    let (Given::Entries(_), Some(managed)) = (given, managed) else { return Ok(()) };
    let entries: Vec<Value> = serde_json::from_slice(managed).unwrap_or_default();
    let mut errors = api::field::FieldErrors::new();
    kinds::object_meta::managed_fields(&entries, &mut errors);
    call.refuse_invalid(meta::name(object), &errors)
}

/// The text of managed fields, which is ours and so is text.
fn text(managed: Vec<u8>) -> String {
    String::from_utf8(managed).expect("names and JSON are text")
}

/// What precedes the first slash of a user agent, as the name of a manager.
pub(crate) fn manager_of(user_agent: &str) -> String {
    let prefix = user_agent.split('/').next().unwrap_or("");
    let mut name = String::new();
    for letter in prefix.chars().filter(|letter| !letter.is_control()) {
        if name.len() + letter.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    name
}
