//! The front: every request passes the same filters, in upstream's order, before a handler sees it.
//!
//! ```text
//! audit id -> panic -> request info -> cache control -> deadline -> warnings -> authentication -> impersonation
//!   -> in-flight limit -> authorization -> route
//! ```
//!
//! Architecture invariant: no other way leads to a route. A connection and an in-process client differ in one point only:
//! where the identity comes from.

mod dangling;
mod flow;
mod headers;
mod impersonate;
mod inflight;
mod route;
mod timeout;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use api::Status;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::answer::{self, Body, Request, Response};
use crate::authenticate::{Authenticator, Peer};
use crate::authorize::{self, Attributes, Authorizer as _, Resource, Union};
use crate::metrics::Metrics;
use crate::negotiate::{self, Style};
use crate::request::{self, Context, Target, User, Verb, Warnings};

pub(crate) use self::dangling::{FLOW_CONDITIONS, keep as keep_flow_conditions};
use self::flow::Flow;
pub use self::flow::Flows;
pub use self::inflight::{Limits, Settings as LimitSettings};
pub use self::route::Routes;

/// Where a request's identity comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A connection, with what its client certificate says.
    Connection(Option<Peer>),
    /// A part of this process, with the identity that it was given.
    Process(Arc<User>),
}

/// The filters and what they need.
pub struct Front {
    /// Who asks?
    pub authenticator: Arc<Authenticator>,
    /// May they?
    pub authorizer: Union,
    /// How many at once?
    pub limits: Limits,
    /// Which flow are they part of?
    pub flows: Flows,
    /// Who answers?
    pub routes: Routes,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A request that has been let in.
struct Admitted {
    context: Context,
    request: Request,
}

impl Front {
    /// Answers a request. Never fails and never panics.
    pub async fn answer(&self, request: Request, origin: Origin) -> Response {
        let started = daemon::clock::monotonic();
        let audit_id = headers::audit_id(request.headers());
        let accepts_gzip = headers::accepts_gzip(request.headers());
        let method = request.method().clone();
        let query = request.uri().query().map(str::to_owned);
        let style = negotiate::style(request.headers(), answer::is_pretty(query.as_deref(), request.headers()));
        let target = match headers::target(&request) {
            Ok((target, query)) => (Arc::new(target), Arc::new(query)),
            Err(error) => {
                let uri = request.uri().to_string();
                let text = format!("Internal Server Error: {uri:?}: failed to create RequestInfo: {error}\n");
                let answer = answer::text(StatusCode::INTERNAL_SERVER_ERROR, text);
                return headers::finish(answer, &audit_id, &Warnings::default());
            }
        };
        let warnings = Warnings::default();
        let long_running = timeout::is_long_running(&target.0, request.headers());
        let context = Context {
            user: Arc::new(User::default()),
            target: target.0.clone(),
            query: target.1,
            now: daemon::clock::now(),
            user_agent: headers::text(request.headers(), header::USER_AGENT).into(),
            audit_id: audit_id.as_str().into(),
            warnings: warnings.clone(),
        };
        let work = self.filtered(Admitted { context, request }, origin, long_running, style);
        let answer = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(answer) => answer,
            Err(panic) => panicked(&*panic, &target.0),
        };
        let answer = headers::finish(answer, &audit_id, &warnings);
        let answer = headers::compressed(answer, accepts_gzip, long_running);
        self.metrics.request(&method, &target.0, answer.status(), started.elapsed(), long_running);
        answer
    }

    async fn filtered(&self, admitted: Admitted, origin: Origin, long_running: bool, style: Style) -> Response {
        let deadline = match timeout::of(&admitted.context, long_running) {
            Ok(deadline) => deadline,
            Err(status) => return answer::refuse(&status, style),
        };
        let work = self.let_in(admitted, origin, long_running, style);
        let Some(deadline) = deadline else {
            return answer::unless_refused(work.await, style);
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(outcome) => answer::unless_refused(outcome, style),
            Err(_) => answer::refuse(&timeout::exceeded(), style),
        }
    }

    async fn let_in(
        &self,
        admitted: Admitted,
        origin: Origin,
        long_running: bool,
        style: Style,
    ) -> Result<Response, Status> {
        let Admitted { mut context, mut request } = admitted;
        let user = match origin {
            Origin::Process(user) => user,
            Origin::Connection(peer) => {
                self.authenticator.request(request.headers_mut(), peer.as_ref(), &context.warnings, context.now).await?
            }
        };
        context.user = user.clone();
        match impersonate::user(request.headers_mut(), user, &attributes(&context), &self.authorizer) {
            Ok(user) => context.user = user,
            Err(status) => return Ok(refused(&status, style)),
        }
        // A request that may last is in no one's way, except for a watch's beginning.
        let is_watch = matches!(&*context.target, Target::Resource(path) if path.verb == Verb::Watch);
        let flow = if long_running && !is_watch { Flow::default() } else { self.flows.of(&context) };
        let permit = match self.limits.enter(&context, long_running).await {
            Ok(permit) => permit,
            Err(answer) => return Ok(flow.mark(answer)),
        };
        let answer = match self.authorize(&context) {
            Ok(()) => self.routes.handle(context, request, style.pretty).await,
            Err(status) => refused(&status, style),
        };
        Ok(permit.hold(flow.mark(answer), long_running))
    }

    fn authorize(&self, context: &Context) -> Result<(), Status> {
        let attributes = attributes(context);
        let ruling = self.authorizer.authorize(&attributes);
        if ruling.is_allowed() { Ok(()) } else { Err(authorize::forbidden(&attributes, &ruling.reason)) }
    }
}

/// What a request asks of authorization.
fn attributes(context: &Context) -> Attributes<'_> {
    let (verb, target) = match &*context.target {
        Target::Path { verb, path } => (verb.as_str(), authorize::Target::Path(path)),
        Target::Resource(path) => {
            let resource = Resource {
                group: &path.group,
                version: &path.version,
                namespace: &path.namespace,
                resource: &path.resource,
                subresource: &path.subresource,
                name: &path.name,
                fields: context.param("fieldSelector").unwrap_or_default(),
                labels: context.param("labelSelector").unwrap_or_default(),
            };
            (path.verb.word(), authorize::Target::Resource(resource))
        }
    };
    Attributes { user: &context.user, verb, target }
}

/// A refusal by a filter; its text must not be taken for a page.
fn refused(status: &Status, style: Style) -> Response {
    let mut answer = answer::refuse(status, style);
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn panicked(panic: &(dyn std::any::Any + Send), target: &Target) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(panic = text, ?target, "a request panicked");
    let message = "This request caused apiserver to panic. Look in the logs for details.\n";
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, message)
}
