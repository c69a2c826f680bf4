//! From a request to the operation that answers it.

use std::sync::Arc;

use api::patch::{self, PatchType};
use api::schema::TypeId;
use api::status::Details;
use api::{GroupVersionKind, Reason, Status, Value, meta};
use http::{HeaderMap, StatusCode};

use super::Registry;
use super::call::Call;
use super::options::FieldValidation;
use super::resource::Endpoint;
use super::special::{self, Part};
use super::update::{Change, Outcome};
use super::write::{self, Written};
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
            let offer = Offer { table: path.verb != Verb::Create, ..offer };
            let accept = negotiate::accept(&parts.headers, pretty, offer)?;
            return special::unstored(self, (context, path), accept, &parts.headers, body).await;
        };
        check_verb(endpoint, path)?;
        if !endpoint.table.deprecation.is_empty() {
            context.warnings.add(endpoint.table.deprecation);
        }
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
        let object = write::decode(self, body, format, &gvk, options.field_validation)?;
        let written = self.create_object(object, &options).await?;
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
        let make = |old: &Value| shape.put_into(self, old, served.clone());
        let uid = meta::uid(&served);
        let change = Change {
            make: &make,
            uid: Some(uid).filter(|uid| !uid.is_empty()),
            create: Some(&served),
            options: &options,
        };
        let outcome = self.update_object(&change).await?;
        self.changed(&shape, &outcome)
    }

    async fn patch(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let kind = patch_type(&negotiate::media_type(headers))?;
        let options = self.write_options("PatchOptions")?;
        let shape = self.shape();
        let make = |old: &Value| {
            let served = shape.take_from(self, old)?;
            let mut patched = self.patched(kind, &served, body, &shape, options.field_validation)?;
            write::ensure_namespace(self, &mut patched)?;
            write::ensure_name(&patched, &self.path.name)?;
            shape.put_into(self, old, patched)
        };
        let change = Change { make: &make, uid: None, create: None, options: &options };
        let outcome = self.update_object(&change).await?;
        self.changed(&shape, &outcome)
    }

    fn patched(
        &self,
        kind: PatchType,
        served: &Value,
        body: &[u8],
        shape: &Shape,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let id = shape.type_id.ok_or_else(|| not_served(&self.path.subresource))?;
        let patched = patch::apply(kind, served, body, id, validation != FieldValidation::Ignore)?;
        if validation == FieldValidation::Strict && !patched.strict.is_empty() {
            return Err(patched.strict_error());
        }
        write::report(self, &patched.strict, &shape.gvk, validation)?;
        Ok(patched.value)
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
        self.part(code, shape.take_from(self, &self.tree(written)?)?)
    }

    /// GET of one object, or of what a subresource shows of it.
    async fn read(&self) -> Result<Response, Status> {
        let shape = self.shape();
        let found = self.find().await?;
        self.shaped(&shape, StatusCode::OK, &found)
    }

    /// What is read and written at this request's path.
    fn shape(&self) -> Shape {
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

/// The kind at a path: the object's own, or that of a part of it.
struct Shape {
    gvk: GroupVersionKind,
    type_id: Option<TypeId>,
    part: Option<&'static dyn Part>,
}

impl Shape {
    /// What is served of an object.
    fn take_from(&self, call: &Call<'_>, object: &Value) -> Result<Value, Status> {
        let Some(part) = self.part else { return Ok(call.endpoint.client_of_working(object.clone())) };
        let mut taken = part.of(object)?;
        let root = meta::as_object_mut(&mut taken);
        root.insert("kind".to_owned(), self.gvk.kind.as_str().into());
        root.insert("apiVersion".to_owned(), self.gvk.api_version().into());
        Ok(taken)
    }

    /// The object with what was served of it changed.
    fn put_into(&self, call: &Call<'_>, old: &Value, served: Value) -> Result<Value, Status> {
        let mut object = match self.part {
            Some(part) => part.into(old, &served)?,
            None => call.endpoint.working_of_client(served),
        };
        write::default(call, &mut object);
        Ok(object)
    }
}

fn patch_type(media_type: &str) -> Result<PatchType, Status> {
    match PatchType::from_content_type(media_type) {
        Some(PatchType::Apply) => Err(negotiate::unsupported("server-side apply is not served yet")),
        Some(kind) => Ok(kind),
        None => Err(negotiate::unsupported("415: Unsupported Media Type").with_details(Details::default())),
    }
}

fn not_served(subresource: &str) -> Status {
    Status::new(Reason::Unknown(501), format!("the subresource {subresource} is not served yet"))
}
