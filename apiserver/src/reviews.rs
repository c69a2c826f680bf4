//! Resources that store nothing: questions about identity and permission, and tokens.

mod access;
mod identity;
mod token;

use std::sync::Arc;

use api::apply::{Reset, Tracker, Versions};
use api::schema::{self, Resource, TypeId};
use api::{GroupVersionKind, Reason, Status, Value};
use http::StatusCode;

use crate::admission::{self, Chain, Operation};
use crate::answer::{self, Request, Response};
use crate::authenticate::Authenticator;
use crate::authorize::Union;
use crate::negotiate::{self, Format, Offer};
use crate::objects::Handle;
use crate::registry::{manager_of, yaml};
use crate::request::{Context, ResourcePath, Verb};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Answers the questions.
pub struct Reviews {
    /// Knows tokens.
    pub authenticator: Arc<Authenticator>,
    /// Knows permissions.
    pub authorizer: Union,
    /// Where service accounts and what tokens are bound to are looked up.
    pub objects: Handle,
    /// Sees what is asked before it is answered.
    pub admission: Chain,
}

/// A question with its body.
struct Asked<'a> {
    context: &'a Context,
    path: &'a ResourcePath,
    body: Value,
}

/// These paths are answered here and nowhere else.
pub fn is_review(path: &ResourcePath) -> bool {
    match (path.group.as_str(), path.resource.as_str()) {
        ("", "serviceaccounts") => path.subresource == "token",
        (AUTHENTICATION | AUTHORIZATION, _) => true,
        _ => false,
    }
}

impl Reviews {
    /// Answers a question.
    pub async fn handle(&self, context: &Context, path: &ResourcePath, request: Request, pretty: bool) -> Response {
        let style = negotiate::style(request.headers(), pretty);
        answer::unless_refused(self.answer(context, path, request, pretty).await, style)
    }

    async fn answer(
        &self,
        context: &Context,
        path: &ResourcePath,
        request: Request,
        pretty: bool,
    ) -> Result<Response, Status> {
        let table = schema::table().resource(&path.group, &path.version, &path.resource);
        let table = table.ok_or_else(Status::unknown_path)?;
        let kind = kind_of(table, path)?;
        if path.verb != Verb::Create {
            let message = "the server does not allow this method on the requested resource";
            return Err(Status::new(Reason::MethodNotAllowed, message).with_details(api::status::Details::default()));
        }
        let (parts, body) = request.into_parts();
        let accept = negotiate::accept(&parts.headers, pretty, Offer { table: false, list: false, stream: false })?;
        let format = negotiate::content(&parts.headers)?;
        let bytes = answer::read(body).await?;
        let mut body = decode(&bytes, format, &kind, context)?;
        if kind.kind == token::KIND {
            token::default(&mut body);
        }
        let asked = Asked { context, path, body };
        let answer = self.ask(asked, &kind).await?;
        Ok(answer::value(StatusCode::CREATED, &answer, accept.style()))
    }

    async fn ask(&self, asked: Asked<'_>, kind: &GroupVersionKind) -> Result<Value, Status> {
        let Asked { context, path, .. } = asked;
        let managed = managed(&asked, kind);
        let mut answer = match kind.kind.as_str() {
            "TokenReview" => self.token_review(asked).await?,
            "SelfSubjectReview" => identity::self_subject_review(context),
            "SubjectAccessReview" => self.subject_access_review(asked)?,
            "LocalSubjectAccessReview" => self.local_subject_access_review(asked)?,
            "SelfSubjectAccessReview" => self.self_subject_access_review(asked)?,
            "SelfSubjectRulesReview" => self.self_subject_rules_review(asked)?,
            "TokenRequest" => self.token_request(asked).await?,
            _ => return Err(Status::method_not_supported(&path.group, &path.resource, path.verb.word())),
        };
        answer["kind"] = kind.kind.as_str().into();
        answer["apiVersion"] = kind.api_version().into();
        // What repeats the question says whose it is.
        if answer.get("spec").and_then(Value::as_object).is_some_and(|spec| !spec.is_empty()) {
            api::meta::set(&mut answer, "managedFields", managed);
        }
        Ok(answer)
    }

    /// Shows the question to validating admission.
    async fn admit(&self, asked: &Asked<'_>, kind: &str) -> Result<(), Status> {
        let attributes = admission::Attributes {
            context: asked.context,
            path: asked.path,
            kind,
            operation: Operation::Create,
            object: Some(asked.body.clone()),
            old: None,
            dry_run: asked.context.param("dryRun").is_some(),
        };
        self.admission.validate(&attributes).await
    }
}

/// A question is served in one version.
struct Alone;

impl Versions for Alone {
    fn convert(&self, _object: &Value, _version: &str) -> Option<(Value, TypeId)> {
        None
    }
}

/// Whoever asks owns the whole question.
fn managed(asked: &Asked<'_>, kind: &GroupVersionKind) -> Value {
    let Some(type_id) = schema::table().type_of(&kind.group, &kind.version, &kind.kind) else { return Value::Null };
    let given = asked.context.param("fieldManager").filter(|manager| !manager.is_empty());
    let manager = given.map_or_else(|| manager_of(&asked.context.user_agent), str::to_owned);
    let tracker = Tracker {
        gvk: kind,
        type_id,
        subresource: &asked.path.subresource,
        manager: &manager,
        now: asked.context.now,
        reset: Reset::Nothing,
        versions: &Alone,
    };
    serde_json::from_slice(&tracker.create(&asked.body, "")).unwrap_or_default()
}

fn kind_of(table: &Resource, path: &ResourcePath) -> Result<GroupVersionKind, Status> {
    if path.subresource.is_empty() {
        return Ok(table.gvk());
    }
    let below = table.subresource(&path.subresource).ok_or_else(Status::unknown_path)?;
    Ok(GroupVersionKind::new(below.group, below.version, below.kind))
}

/// Reads a body as a kind. Unknown fields are reported as the request asks.
fn decode(bytes: &[u8], format: Format, kind: &GroupVersionKind, context: &Context) -> Result<Value, Status> {
    let yaml;
    let text = match format {
        Format::Yaml => {
            let tree = yaml::read(bytes).map_err(|error| Status::bad_request(error.to_string()))?;
            yaml = serde_json::to_vec(&tree).map_err(Status::internal)?;
            &yaml
        }
        _ => bytes,
    };
    let body = match format {
        Format::Protobuf => api::protobuf::decode_body(bytes, kind)?,
        _ => schema::decode_body(text, kind)?,
    };
    if body.gvk.kind != kind.kind {
        let (found, version, expected, kind) = (&body.gvk.kind, &body.gvk.version, kind, &kind.kind);
        let group = expected.group.split('.').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{found} in version {version:?} cannot be handled as a {kind}: converting ({version}.{found}) to \
             ({group}.{kind}): unknown conversion"
        )));
    }
    if body.gvk != *kind {
        let (found, expected) = (body.gvk.api_version(), kind.api_version());
        return Err(Status::bad_request(format!(
            "the API version in the data ({found}) does not match the expected API version ({expected})"
        )));
    }
    if !body.strict.is_empty() {
        match context.param("fieldValidation") {
            Some("Strict") => {
                let all = body.strict.join(", ");
                let (kind, version) = (&kind.kind, &kind.version);
                return Err(Status::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {all}"
                )));
            }
            Some("Ignore") => {}
            _ => body.strict.iter().for_each(|problem| context.warnings.add(problem.as_str())),
        }
    }
    Ok(body.value)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
