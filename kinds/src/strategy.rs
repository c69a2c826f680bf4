//! What the generic registry asks of a kind: defaults, preparation, validation and the facts of its routes.
//!
//! A strategy is pure. It sees JSON trees that the schema table has already type-checked, and the time it is told.
//! Every method has the answer of a plain kind as its default, so a plain kind's file is a few lines. The registry
//! calls the methods in the order in which they stand here; it names no kind itself.

use api::{Value, field::FieldErrors};
use jiff::Timestamp;

use crate::names::Complaints;
pub use crate::names::NameRule;

/// What a strategy may know about a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// When the request arrived.
    pub now: Timestamp,
    /// The namespace, empty at cluster scope.
    pub namespace: &'a str,
    /// The version that the client speaks.
    pub version: &'a str,
    /// The caller's name.
    pub user: &'a str,
    /// The caller's groups.
    pub groups: &'a [String],
    /// The caller's UID, empty when it has none.
    pub user_uid: &'a str,
}

/// What happens to dependents when a delete does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultPropagation {
    /// The garbage collector deletes them later.
    Background,
    /// They lose their owner.
    Orphan,
    /// The kind takes no part in garbage collection.
    Unsupported,
}

/// How a change moves `metadata.generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// It grows when `spec` changes.
    Spec,
    /// It grows when anything but `metadata` and `status` changes.
    Content,
}

/// What a kind itself asks of a new object's metadata. Whatever it asks, the generic checks come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataCheck {
    /// Everything.
    Full,
    /// A finalizer without a domain need not be one of Kubernetes' own.
    AnyFinalizer,
    /// Nothing: any name that can stand in a URL's path will do.
    None,
}

/// A graceful deletion that is asked for or forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Seconds until the object may go; 0 removes it now.
    pub seconds: i64,
}

/// A kind's rules. See the module's documentation.
pub trait Strategy: Send + Sync + 'static {
    /// How names are checked.
    fn name_rule(&self) -> NameRule {
        NameRule::Dns1123Subdomain
    }

    /// Complaints about a name; `prefix` says that something will be appended to it.
    fn check_name(&self, name: &str, prefix: bool) -> Complaints {
        self.name_rule().check(name, prefix)
    }

    /// What is asked of a new object's metadata.
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::Full
    }

    /// PUT on a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// PUT without a resourceVersion replaces whatever is there.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// How `metadata.generation` moves.
    fn generation(&self) -> Generation {
        Generation::None
    }

    /// What happens to dependents when a delete does not say.
    fn default_propagation(&self) -> DefaultPropagation {
        DefaultPropagation::Background
    }

    /// An object without a name gets a random one behind its `generateName`; otherwise that is its name.
    fn generates_names(&self) -> bool {
        true
    }

    /// A delete answers with the object instead of a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Fills what the client left out, beyond the schema table's own defaults. Called on every write, on the new object.
    fn default(&self, _object: &mut Value, _request: &Request<'_>) {}

    /// Drops or sets what a client does not decide on create (status, generation, allocated fields).
    fn prepare_create(&self, _object: &mut Value, _request: &Request<'_>) {}

    /// Every field error of a new object, metadata apart: see [`crate::validate`].
    fn validate_create(&self, _object: &Value, _request: &Request<'_>, _errors: &mut FieldErrors) {}

    /// Keeps from the old object what a client does not decide on update (status, immutable allocations).
    fn prepare_update(&self, _new: &mut Value, _old: &Value, _request: &Request<'_>) {}

    /// Every field error of a change, metadata apart: see [`crate::validate`].
    fn validate_update(&self, _new: &Value, _old: &Value, _request: &Request<'_>, _errors: &mut FieldErrors) {}

    /// The same for a subresource that writes the object (`status`, `finalize`, `approval`, `ephemeralcontainers`, `resize`).
    /// The default is a status of most kinds: metadata and status are the caller's, everything else the old object's.
    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_content(new, old);
    }

    /// Every field error of a change through a subresource.
    fn validate_subresource(
        &self,
        _subresource: &str,
        _new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        _errors: &mut FieldErrors,
    ) {
    }

    /// Warnings that go with a write's answer. `old` is None on create.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// How long a deletion waits; None when the kind is deleted at once. `asked` is the caller's grace period.
    fn graceful_delete(&self, _object: &Value, _asked: Option<i64>) -> Option<Grace> {
        None
    }

    /// The names of the selectable fields besides `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// A namespaced kind with selectable fields of its own can be selected by its namespace too.
    fn selects_namespace(&self) -> bool {
        true
    }

    /// Why a field is none of those that can be selected by.
    fn unknown_field(&self, field: &str) -> String {
        if self.selectable_fields().is_empty() {
            let known = "only \"metadata.name\", \"metadata.namespace\"";
            return format!("{field:?} is not a known field selector: {known}");
        }
        format!("field label not supported: {field}")
    }

    /// The selectable field by which lists are found without looking at other objects; its values are strings.
    fn indexed_field(&self) -> Option<&'static str> {
        None
    }

    /// What [`Strategy::selectable_field`] looks at: paths of names, each with all that is below it.
    fn selected_paths(&self) -> &'static [&'static str] {
        self.selectable_fields()
    }

    /// The value of a selectable field, empty when it is not set.
    fn selectable_field(&self, object: &Value, field: &str) -> String {
        let found = field.split('.').try_fold(object, |value, name| value.get(name));
        match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// A table row's cells, in the order of the recorded columns. None for upstream's default (Name, Created At).
    fn row(&self, _object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        None
    }

    /// The place of an object among the rows of a list's table; all the same where the list's order stays.
    fn row_place(&self, _object: &Value) -> i64 {
        0
    }

    /// Adds what upstream's internal type says even when there is nothing in it.
    fn fill_empty(&self, _object: &mut Value) {}

    /// Takes out of an object what is not shown where its metadata are shown alone.
    fn strip_metadata(&self, _object: &mut Value) {}

    /// The one of a list's objects whose name gets a mark in the list's table, and the mark.
    fn marked(&self, _objects: &[Value]) -> Option<(usize, &'static str)> {
        None
    }

    /// The conditions of a table row, such as a completed pod's.
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }
}

/// What most kinds' status update may change: metadata and status. Everything else becomes the old object's.
pub fn keep_content(new: &mut Value, old: &Value) {
    let apart = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata" | "status");
    let Some(old) = old.as_object() else {
        return;
    };
    let root = api::meta::as_object_mut(new);
    root.retain(|name, _| apart(name) || old.contains_key(name));
    // Compared first: what stays is mostly there already, and more to copy than to look at.
    for (name, value) in old.iter().filter(|(name, _)| !apart(name)) {
        if root.get(name) != Some(value) {
            root.insert(name.clone(), value.clone());
        }
    }
}

/// An update of the object itself leaves the status as it is.
pub fn keep_status(new: &mut Value, old: &Value) {
    let root = api::meta::as_object_mut(new);
    match old.get("status") {
        kept if kept == root.get("status") => None,
        Some(status) => root.insert("status".to_owned(), status.clone()),
        None => root.remove("status"),
    };
}

/// What a stricter status update may change: the status alone.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let root = api::meta::as_object_mut(&mut kept);
    match new.get_mut("status").map(Value::take) {
        Some(status) => root.insert("status".to_owned(), status),
        None => root.remove("status"),
    };
    let version = api::meta::resource_version(new).to_owned();
    if !version.is_empty() {
        api::meta::set(&mut kept, "resourceVersion", Value::String(version));
    }
    *new = kept;
}
