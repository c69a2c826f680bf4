//! From a request to the operation that answers it.

use std::sync::Arc;

use api::{Reason, Status, Value, meta};
use http::{HeaderMap, StatusCode};

use super::Registry;
use super::call::Call;
use super::patch::PatchKind;
use super::resource::Endpoint;
use super::update::{Change, Outcome};
use super::write;
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
        let endpoint = self.endpoint(&path.group, &path.version, &path.resource).ok_or_else(Status::unknown_path)?;
        check_verb(endpoint, path)?;
        let (parts, body) = request.into_parts();
        let offer = Offer { table: true, stream: path.verb == Verb::Watch };
        let accept = negotiate::accept(&parts.headers, pretty, offer)?;
        let call = Call { registry: self, endpoint, context, path, accept };
        match path.verb {
            Verb::Get => call.get().await,
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
        endpoint.table.has_verb(word)
    } else {
        let subresource = endpoint.table.subresource(&path.subresource).ok_or_else(Status::unknown_path)?;
        subresource.verbs.contains(&word)
    };
    if allowed { Ok(()) } else { Err(method_not_allowed()) }
}

fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(Reason::MethodNotAllowed, message).with_details(api::status::Details::default())
}

impl Call<'_> {
    async fn post(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        if !self.path.subresource.is_empty() {
            return Err(not_served(&self.path.subresource));
        }
        let format = negotiate::content(headers)?;
        let options = self.write_options("CreateOptions")?;
        let gvk = self.endpoint.table.gvk();
        let object = write::decode(self, body, format, &gvk, options.field_validation)?;
        let written = self.create_object(object, &options).await?;
        self.object(StatusCode::CREATED, &written.raw, written.revision)
    }

    async fn put(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let options = self.write_options("UpdateOptions")?;
        let format = negotiate::content(headers)?;
        let gvk = self.endpoint.table.gvk();
        let mut served = write::decode(self, body, format, &gvk, options.field_validation)?;
        write::ensure_namespace(self, &mut served)?;
        write::ensure_name(&mut served, &self.path.name)?;
        write::dedup_owners(self, &mut served, false);
        let mut stored = self.endpoint.stored(served.clone());
        write::default(self, &mut stored);
        let uid = meta::uid(&stored).to_owned();
        let make = |_: &Value| Ok(stored.clone());
        let change = Change {
            make: &make,
            uid: Some(uid.as_str()).filter(|uid| !uid.is_empty()),
            create: Some(&served),
            options: &options,
        };
        let outcome = self.update_object(&change).await?;
        self.changed(&outcome)
    }

    async fn patch(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Status> {
        let kind = PatchKind::of(&negotiate::media_type(headers))?;
        let options = self.write_options("PatchOptions")?;
        let patch: Value = serde_json::from_slice(body).map_err(|error| Status::bad_request(error.to_string()))?;
        let make = |old: &Value| {
            let served = self.patched(kind, &patch, &self.endpoint.served(old.clone()))?;
            let mut stored = self.endpoint.stored(served);
            write::default(self, &mut stored);
            Ok(stored)
        };
        let change = Change { make: &make, uid: None, create: None, options: &options };
        let outcome = self.update_object(&change).await?;
        self.changed(&outcome)
    }

    fn changed(&self, outcome: &Outcome) -> Result<Response, Status> {
        let code = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
        self.object(code, &outcome.written.raw, outcome.written.revision)
    }
}

fn not_served(subresource: &str) -> Status {
    Status::new(Reason::Unknown(501), format!("the subresource {subresource} is not served yet"))
}
