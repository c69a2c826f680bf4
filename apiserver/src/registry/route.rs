//! From a request to the operation that answers it.

use std::sync::Arc;

use api::apply::Given;
use api::patch::{self, PatchType};
use api::schema;
use api::status::Details;
use api::{GroupVersionKind, Reason, Status, Value, meta};
use http::{HeaderMap, StatusCode};

use super::Registry;
use super::call::Call;
use super::fields::{self, Current, Made, Shape};
use super::options::{FieldValidation, WriteOptions};
use super::resource::Endpoint;
use super::special;
use super::update::{Change, Create, Outcome};
use super::write::{self, Written};
use super::yaml::{self, Configuration};
use crate::answer::{self, Request, Response};
use crate::negotiate::{self, Accept, Format, Offer};
use crate::request::{Context, ResourcePath, Verb};

impl Registry {
    pub(crate) async fn answer(
        &self,
        context: &Context,
        path: &ResourcePath,
        request: Request,
        pretty: bool,
    ) -> Result<Response, Status> {
        let (parts, body) = request.into_parts();
        let offer = Offer { table: true, stream: path.verb == Verb::Watch, list: path.verb == Verb::List };
        let Some(endpoint) = self.endpoint(&path.group, &path.version, &path.resource) else {
            if let Some(table) = schema::table().resource(&path.group, &path.version, &path.resource) {
                warn_of_age(context, path, table, &parts.headers);
            }
            let offer = Offer { table: path.verb != Verb::Create, ..offer };
            let accept = negotiate::accept(&parts.headers, pretty, offer)?;
            return special::unstored(self, (context, path), accept, &parts.headers, body).await;
        };
        check_verb(endpoint, path)?;
        warn_of_age(context, path, endpoint.table, &parts.headers);
        let accept = negotiate::accept(&parts.headers, pretty, offer)?;
        let call = Call { registry: self, endpoint, context, path, accept };
        match path.verb {
            Verb::Get => call.read().await,
            Verb::List => call.list_collection().await,
            Verb::Watch => call.watch().await,
            Verb::Create => call.post(&parts.headers, &answer::read(body).await?).await,
            Verb::Update => call.put(&parts.headers, &answer::read(body).await?).await,
            Verb::Patch => call.patch(&parts.headers, &answer::read(body).await?).await,
            Verb::Delete => call.delete(&answer::read(body).await?, delete_format(&parts.headers)?).await,
            Verb::DeleteCollection => {
                call.delete_collection(&answer::read(body).await?, delete_format(&parts.headers)?).await
            }
            Verb::Proxy | Verb::Other => Err(method_not_allowed()),
        }
    }

    /// A request of the server itself on an endpoint.
    pub(crate) fn call<'a>(
        &'a self,
        endpoint: &'a Arc<Endpoint>,
        context: &'a Context,
        path: &'a ResourcePath,
    ) -> Call<'a> {
        let accept = Accept { format: Format::Json, pretty: false, transform: None };
        Call { registry: self, endpoint, context, path, accept }
    }
}

/// Says that a resource is deprecated, unless the request is refused for its media types alone, before any handler.
fn warn_of_age(context: &Context, path: &ResourcePath, table: &schema::Resource, headers: &HeaderMap) {
    if table.deprecation.is_empty() {
        return;
    }
    let is_read = path.verb != Verb::Patch || patch_type(&negotiate::media_type(headers)).is_ok();
    if is_read && negotiate::is_answerable(headers) {
        context.warnings.add(table.deprecation);
    }
}

fn delete_format(headers: &HeaderMap) -> Result<Format, Status> {
    negotiate::content(headers)
}

fn check_verb(endpoint: &Endpoint, path: &ResourcePath) -> Result<(), Status> {
    let word = path.verb.word();
    let allowed = if path.subresource.is_empty() {
        // A list or watch may be of one name, and only those two of all namespaces at once.
        let reads = matches!(path.verb, Verb::List | Verb::Watch);
        let placed = reads || !endpoint.table.namespaced || !path.namespace.is_empty();
        let named = match path.verb {
            Verb::Create => path.name.is_empty(),
            Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => !path.name.is_empty(),
            _ => true,
        };
        endpoint.table.has_verb(word) && named && placed
    } else {
        let subresource = endpoint.table.subresource(&path.subresource).ok_or_else(Status::unknown_path)?;
        subresource.verbs.contains(&word)
    };
    if allowed { Ok(()) } else { Err(method_not_allowed()) }
}

fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(Reason::MethodNotAllowed, message).with_details(Details::default())
}

impl Call<'_> {
    async fn post(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let format = negotiate::content(headers)?;
        let options = self.write_options("CreateOptions")?;
        if !self.path.subresource.is_empty() {
            let action = special::action(&self.path.group, &self.path.resource, &self.path.subresource);
            let action = action.ok_or_else(|| not_served(&self.path.subresource))?;
            return action.run(self, body, format, &options).await;
        }
        let gvk = self.endpoint.table.gvk();
        let mut object = write::decode(self, body, format, &gvk, options.field_validation)?;
        let given = fields::take_given(&mut object, body);
        let written = self.create_object(object, &given, &options).await?;
        self.object(StatusCode::CREATED, &written.raw, written.revision)
    }

    async fn put(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let options = self.write_options("UpdateOptions")?;
        let format = negotiate::content(headers)?;
        let shape = self.shape();
        let mut served = write::decode(self, body, format, &shape.gvk, options.field_validation)?;
        write::ensure_namespace(self, &mut served)?;
        write::ensure_name(&served, &self.path.name)?;
        write::dedup_owners(self, &mut served, false);
        let given = fields::take_given(&mut served, body);
        let make = |current: &Current<'_>| self.made_of(&shape, current, (served.clone(), given.clone()), &options);
        let uid = meta::uid(&served);
        let change = Change {
            make: &make,
            uid: Some(uid).filter(|uid| !uid.is_empty()),
            create: Create::Object(&served, &given),
            options: &options,
        };
        let outcome = self.update_object(&change).await?;
        self.changed(&shape, &outcome)
    }

    async fn patch(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let kind = patch_type(&negotiate::media_type(headers))?;
        if kind == PatchType::Apply {
            return self.apply(body).await;
        }
        let options = self.write_options("PatchOptions")?;
        let shape = self.shape();
        // Only a patch that speaks of managed fields has to see them.
        let sees_managed = shape.part.is_none() && memchr::memmem::find(body, b"managedFields").is_some();
        let make = |current: &Current<'_>| {
            let mut served = shape.take_from(self, current.object)?;
            if sees_managed && !current.managed.is_empty() {
                let managed = serde_json::from_str(current.managed);
                meta::set(served.to_mut(), "managedFields", managed.map_err(Status::internal)?);
            }
            let (mut patched, disowned) = self.patched(kind, &served, body, &shape, options.field_validation)?;
            let given = if disowned { Given::Reset } else { fields::take_given(&mut patched, b"") };
            write::ensure_namespace(self, &mut patched)?;
            write::ensure_name(&patched, &self.path.name)?;
            self.made_of(&shape, current, (patched, given), &options)
        };
        let change = Change { make: &make, uid: None, create: Create::Never, options: &options };
        let outcome = self.update_object(&change).await?;
        self.changed(&shape, &outcome)
    }

    /// PATCH with a configuration that is applied.
    async fn apply(&self, body: &[u8]) -> Result<Response, Status> {
        let options = WriteOptions::read_apply(self.context)?;
        let shape = self.shape();
        let config = yaml::configuration(body)?;
        let outcome = self.apply_configuration(&shape, &config, &options).await?;
        self.changed(&shape, &outcome)
    }

    /// Applies a configuration to the object of this request's path.
    pub(crate) async fn apply_configuration(
        &self,
        shape: &Shape,
        config: &Configuration,
        options: &WriteOptions,
    ) -> Result<Outcome, Status> {
        let applied = |current: Option<&Current<'_>>| self.applied(shape, current, config, options);
        let make = |current: &Current<'_>| applied(Some(current));
        let create = || applied(None);
        let change = Change { make: &make, uid: None, create: Create::Applied(&create), options };
        self.update_object(&change).await
    }

    /// The stored object with what was served of it changed, and who owns what then.
    fn made_of(
        &self,
        shape: &Shape,
        current: &Current<'_>,
        (served, given): (Value, Given),
        options: &WriteOptions,
    ) -> Result<Made, Status> {
        if shape.part.is_some() {
            let before = shape.take_from(self, current.object)?;
            let managed = self.fields_of_part(shape, current, (&*before, &served), options);
            return Ok(Made { object: shape.put_into(self, current.object, served)?, managed });
        }
        let object = shape.put_into(self, current.object, served)?;
        let managed = self.fields_of_changed(shape, current, (&object, &given), options);
        fields::check(self, &object, &given, managed.as_ref())?;
        Ok(Made { object, managed })
    }

    fn patched(
        &self,
        kind: PatchType,
        served: &Value,
        body: &[u8],
        shape: &Shape,
        validation: FieldValidation,
    ) -> Result<(Value, bool), Status> {
        let id = shape.type_id.ok_or_else(|| not_served(&self.path.subresource))?;
        let patched = patch::apply(kind, served, body, id, validation != FieldValidation::Ignore)?;
        if validation == FieldValidation::Strict && !patched.strict.is_empty() {
            return Err(patched.strict_error());
        }
        write::report(self, &patched.strict, &shape.gvk, validation)?;
        Ok((patched.value, patched.disowned))
    }

    fn changed(&self, shape: &Shape, outcome: &Outcome) -> Result<Response, Status> {
        let code = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
        self.shaped(shape, code, &outcome.written)
    }

    /// Answers with an object, or with what a subresource shows of it.
    fn shaped(&self, shape: &Shape, code: StatusCode, written: &Written) -> Result<Response, Status> {
        if shape.part.is_none() {
            return self.object(code, &written.raw, written.revision);
        }
        self.part(code, shape.take_from(self, &self.tree(written)?)?.into_owned())
    }

    /// GET of one object, or of what a subresource shows of it.
    async fn read(&self) -> Result<Response, Status> {
        let shape = self.shape();
        let found = self.find().await?;
        self.shaped(&shape, StatusCode::OK, &found)
    }

    /// What is read and written at this request's path.
    pub(crate) fn shape(&self) -> Shape {
        let subresource = self.endpoint.table.subresource(&self.path.subresource);
        match subresource {
            Some(sub) => Shape {
                gvk: GroupVersionKind::new(sub.group, sub.version, sub.kind),
                type_id: sub.type_id,
                part: special::part(&self.path.group, &self.path.resource, &self.path.subresource),
            },
            None => Shape { gvk: self.endpoint.table.gvk(), type_id: self.endpoint.table.type_id, part: None },
        }
    }
}

fn patch_type(media_type: &str) -> Result<PatchType, Status> {
    match PatchType::from_content_type(media_type) {
        Some(kind) => Ok(kind),
        None => Err(negotiate::unsupported("415: Unsupported Media Type").with_details(Details::default())),
    }
}

fn not_served(subresource: &str) -> Status {
    Status::new(Reason::Unknown(501), format!("the subresource {subresource} is not served yet"))
}
