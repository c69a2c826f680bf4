//! What create, update, patch and delete share: reading the body, defaults, admission, warnings.

use api::schema;
use api::{GroupVersionKind, Status, Value, meta};
use bytes::Bytes;
use store::{Error, Expect, Key};

use super::call::Call;
use super::errors::{self, Subject};
use super::object;
use super::options::{FieldValidation, WriteOptions};
use super::yaml;
use crate::admission::{Attributes, Operation};
use crate::negotiate::Format;
use crate::request::ResourcePath;

/// A stored state: canonical bytes and their revision; revision 0 was never stored (a dry run).
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) raw: Bytes,
    pub(crate) revision: u64,
}

impl Written {
    /// The text of its managed fields.
    pub(crate) fn managed(&self) -> Result<&str, Status> {
        let text = std::str::from_utf8(object::managed(&self.raw));
        text.map_err(|error| Status::internal(format!("decoding a stored object: {error}")))
    }
}

/// A write, as admission sees it.
pub(crate) struct Admission<'a> {
    pub(crate) path: &'a ResourcePath,
    pub(crate) kind: &'a str,
    pub(crate) operation: Operation,
    pub(crate) old: Option<&'a Value>,
    pub(crate) dry_run: bool,
}

/// Reads a body as a kind: type-checked and normalised, unknown and duplicate fields reported as asked.
pub(crate) fn decode(
    call: &Call<'_>,
    body: &[u8],
    format: Format,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Value, Status> {
    if format == Format::Protobuf {
        let body = api::protobuf::decode_body(body, gvk)?;
        check_kind(&body.gvk, gvk)?;
        return Ok(body.value);
    }
    let mut repeated = None;
    let json;
    let text = match format {
        Format::Yaml => {
            repeated = yaml::repeated_key(body);
            json = yaml::to_json(body, gvk)?;
            &json
        }
        _ => body,
    };
    let body = schema::decode_body(text, gvk)?;
    if let Some(line) = repeated {
        let all = format!("yaml: unmarshal errors:\n  {line}");
        let shown = if validation == FieldValidation::Strict { all } else { line };
        report(call, &[shown], gvk, validation)?;
    }
    report(call, &body.strict, gvk, validation)?;
    check_kind(&body.gvk, gvk)?;
    Ok(body.value)
}

/// Refuses a body of another kind or version than the route takes.
fn check_kind(found: &GroupVersionKind, gvk: &GroupVersionKind) -> Result<(), Status> {
    if found.kind != gvk.kind || found.group != gvk.group {
        let (kind, version) = (&found.kind, &found.version);
        let hub = hub_package(&gvk.group);
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {expected}: converting ({version}.{kind}) to ({hub}.{expected}): unknown conversion",
            expected = gvk.kind
        )));
    }
    let (found, expected) = (found.api_version(), gvk.api_version());
    if found != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// The name of upstream's package for a group, as its messages have it.
pub(crate) fn hub_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or("") {
        "" | "events" => "core",
        first => first,
    }
}

/// Treats strict problems as the request asks.
pub(crate) fn report(
    call: &Call<'_>,
    problems: &[String],
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(), Status> {
    match validation {
        _ if problems.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            problems.iter().for_each(|problem| call.context.warnings.add(problem.as_str()));
            Ok(())
        }
        FieldValidation::Strict => Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {all}",
            kind = gvk.kind,
            version = gvk.version,
            all = problems.join(", ")
        ))),
    }
}

/// Fills the defaults of an object: the declared ones, then the kind's.
pub(crate) fn default(call: &Call<'_>, object: &mut Value) {
    if let Some(id) = call.endpoint.working_type() {
        schema::apply_defaults(id, object);
    }
    call.endpoint.strategy.default(object, &call.strategy_request());
}

/// The object as it is stored and shown: upstream reads back what it has written, so what preparation has set gets its
/// defaults too, and the tree the form that decoding gives.
pub(crate) fn finish(call: &Call<'_>, mut object: Value) -> Result<Value, Status> {
    default(call, &mut object);
    let Some(id) = call.endpoint.working_type() else { return Ok(object) };
    if schema::is_settled(&object, id) {
        debug_assert!(schema::decode_value(object.clone(), id).is_ok_and(|decoded| decoded.value == object));
        return Ok(object);
    }
    let decoded = schema::decode_value(object, id);
    decoded.map(|decoded| decoded.value).map_err(|error| Status::internal(format!("after admission: {error}")))
}

/// Runs the mutating plug-ins, then fills defaults again.
pub(crate) async fn mutate(call: &Call<'_>, admission: &Admission<'_>, object: Value) -> Result<Value, Status> {
    let mut attributes = attributes(call, admission, Some(object));
    call.registry.plugins.admit(&mut attributes).await?;
    let mut object = attributes.object.take().unwrap_or_default();
    default(call, &mut object);
    Ok(object)
}

/// Runs the mutating plug-ins on what is no stored object, such as a binding.
pub(crate) async fn mutate_part(call: &Call<'_>, admission: &Admission<'_>, part: Value) -> Result<Value, Status> {
    let mut attributes = attributes(call, admission, Some(part));
    call.registry.plugins.admit(&mut attributes).await?;
    Ok(attributes.object.take().unwrap_or_default())
}

/// Runs the validating plug-ins on the final object; gives it back.
pub(crate) async fn admit(call: &Call<'_>, admission: &Admission<'_>, object: Value) -> Result<Value, Status> {
    let mut attributes = attributes(call, admission, Some(object));
    call.registry.plugins.validate(&attributes).await?;
    Ok(attributes.object.take().unwrap_or_default())
}

/// Runs all plug-ins on a deletion.
pub(crate) async fn admit_delete(call: &Call<'_>, admission: &Admission<'_>) -> Result<(), Status> {
    let mut attributes = attributes(call, admission, None);
    call.registry.plugins.admit(&mut attributes).await?;
    call.registry.plugins.validate(&attributes).await?;
    Ok(())
}

fn attributes<'a>(call: &'a Call<'_>, admission: &Admission<'a>, object: Option<Value>) -> Attributes<'a> {
    Attributes {
        context: call.context,
        path: admission.path,
        kind: admission.kind,
        operation: admission.operation,
        object,
        old: admission.old,
        dry_run: admission.dry_run,
    }
}

/// Puts the request's namespace into the object, or refuses another one.
pub(crate) fn ensure_namespace(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    let expected = if call.collection().namespaced { call.path.namespace.as_str() } else { "" };
    let found = meta::namespace(object);
    if found == expected {
        return Ok(());
    }
    if !found.is_empty() && !expected.is_empty() {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    let expected = if expected.is_empty() { Value::Null } else { expected.into() };
    meta::set(object, "namespace", expected);
    Ok(())
}

/// Refuses an object of another name than the path's.
pub(crate) fn ensure_name(object: &Value, name: &str) -> Result<(), Status> {
    let found = meta::name(object);
    if found.is_empty() {
        let why = "was undeterminable: name must be provided";
        return Err(Status::bad_request(format!("the name of the object ({name} based on URL) {why}")));
    }
    if found != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

/// Drops repeated owner references, with a warning. `admitted` says that plug-ins have run.
pub(crate) fn dedup_owners(call: &Call<'_>, object: &mut Value, admitted: bool) {
    let list = object.get_mut("metadata").and_then(|m| m.get_mut("ownerReferences")).and_then(Value::as_array_mut);
    let Some(list) = list.filter(|list| list.len() > 1) else { return };
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    let mut repeated: Vec<String> = Vec::new();
    for owner in list.drain(..) {
        if kept.contains(&owner) {
            let uid = owner.get("uid").and_then(Value::as_str).unwrap_or("").to_owned();
            if !repeated.contains(&uid) {
                repeated.push(uid);
            }
            continue;
        }
        kept.push(owner);
    }
    *list = kept;
    if repeated.is_empty() {
        return;
    }
    let when = if admitted { " after mutating admission happens" } else { "" };
    call.context.warnings.add(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    ));
}

/// Adds the strategy's warnings, and says when nothing will act on a new object.
pub(crate) fn warn(call: &Call<'_>, new: &Value, old: Option<&Value>) {
    let table = &call.endpoint.table;
    if let Some(text) = kinds::table::idle(table.group, table.name).filter(|_| old.is_none()) {
        call.context.warnings.add(text.to_owned());
    }
    call.endpoint.strategy.warnings(new, old).into_iter().for_each(|text| call.context.warnings.add(text));
}

impl Call<'_> {
    /// What a store's failure is about.
    pub(crate) fn subject<'s>(&'s self, name: &'s str, operation: &'s str) -> Subject<'s> {
        Subject { group: self.endpoint.table.group, resource: self.endpoint.table.name, name, operation }
    }

    /// The state of a key in the store.
    pub(crate) async fn load(&self, key: &Key) -> Result<Option<Written>, Status> {
        let (entry, _) = self.registry.store.get(key).await.map_err(|error| errors::read(&error))?;
        entry.map(|entry| self.written(&entry.value, entry.mod_revision)).transpose()
    }

    /// The tree of a stored state, in the version of the kind's rules, without its managed fields.
    pub(crate) fn tree(&self, written: &Written) -> Result<Value, Status> {
        Ok(self.endpoint.working(self.collection().unmanaged(&written.raw, written.revision)?))
    }

    /// Encodes an object of the version of the kind's rules for the store, with the text of its managed fields.
    pub(crate) fn encode(&self, working: &Value, managed: &[u8]) -> Bytes {
        let head = &self.collection().head;
        match self.endpoint.conversion {
            Some(conversion) if !conversion.rules_are_stored() => {
                head.encode(&self.endpoint.stored(working.clone()), managed)
            }
            _ => head.encode(working, managed),
        }
    }

    /// Stores a state. One that is too large goes without its managed fields, unless they are what an apply is about.
    pub(crate) async fn store(
        &self,
        key: &Key,
        raw: Bytes,
        expect: Expect,
        options: &WriteOptions,
    ) -> Result<Written, Error> {
        let (store, ttl) = (&self.registry.store, self.collection().hooks.ttl());
        let outcome = store.put(key.clone(), raw.clone(), expect, ttl).await;
        let slim = match outcome {
            Err(Error::TooLarge { .. }) if !options.applies => object::without_managed(&raw).map(Bytes::from),
            _ => None,
        };
        match slim {
            Some(raw) => {
                store.put(key.clone(), raw.clone(), expect, ttl).await.map(|revision| Written { raw, revision })
            }
            None => outcome.map(|revision| Written { raw, revision }),
        }
    }

    /// A store's entry in canonical form.
    pub(crate) fn written(&self, value: &Bytes, revision: u64) -> Result<Written, Status> {
        let canonical = self.collection().head.canonical(value);
        let raw = canonical.map_err(|error| Status::internal(format!("decoding a stored object: {error}")))?;
        Ok(Written { raw, revision })
    }

    /// 422 on the object of this request, unless there is no error.
    pub(crate) fn refuse_invalid(&self, name: &str, errors: &api::field::FieldErrors) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        // The group of the stored kind, whatever it is served as.
        Err(Status::invalid(self.collection().group, self.endpoint.table.kind, name, errors))
    }

    /// The path of this request with the object's name.
    pub(crate) fn path_named(&self, name: &str) -> ResourcePath {
        ResourcePath { name: name.to_owned(), ..self.path.clone() }
    }

    /// Reads the options of a write and the body's form.
    pub(crate) fn write_options(&self, kind: &str) -> Result<WriteOptions, Status> {
        WriteOptions::read(self.context, kind)
    }
}
