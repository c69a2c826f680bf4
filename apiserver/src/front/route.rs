//! Which handler answers.

use std::sync::Arc;

use api::{Reason, Status};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::{Context, Request, Response, Target};
use crate::answer;
use crate::authenticate::Authenticator;
use crate::connect::Connects;
use crate::discovery::Discovery;
use crate::health::Health;
use crate::registry::Registry;
use crate::request::{ResourcePath, Verb};
use crate::reviews::{self, Reviews};
use crate::{connect, metrics, openapi, version};

/// The paths beside discovery's and those of health checks, for the list of paths.
const PATHS: [&str; 9] = [
    "/.well-known/openid-configuration",
    "/apis/",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/version",
];

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// The handlers.
pub struct Routes {
    /// Stored resources.
    pub registry: Arc<Registry>,
    /// Resources that store nothing.
    pub reviews: Reviews,
    /// Connections to nodes, pods and services.
    pub connects: Connects,
    /// What is served.
    pub discovery: Discovery,
    /// How the server is.
    pub health: Health,
    /// Whose keys are published.
    pub authenticator: Arc<Authenticator>,
}

impl Routes {
    /// Answers a request that has been let in.
    pub(super) async fn handle(&self, context: Context, request: Request, pretty: bool) -> Response {
        let target = context.target.clone();
        match &*target {
            Target::Resource(path) => self.resource(context, path, request, pretty).await,
            Target::Path { path, .. } => self.path(&context, path, request, pretty).await,
        }
    }

    async fn resource(&self, context: Context, path: &ResourcePath, request: Request, pretty: bool) -> Response {
        if !path.group.is_empty() && api::schema::table().group(&path.group).is_none() {
            return not_found();
        }
        if path.verb == Verb::Proxy {
            // The proxies below /api/V/proxy/ are gone since long.
            return answer::refuse(&Status::unknown_path(), pretty);
        }
        if connect::is_connect(path) {
            return self.connects.handle(&context, path, request, pretty).await;
        }
        if request.method() == Method::HEAD {
            return answer::refuse(&method_not_allowed(), pretty);
        }
        if reviews::is_review(path) {
            return self.reviews.handle(&context, path, request, pretty).await;
        }
        self.registry.handle(&context, path, request).await
    }

    async fn path(&self, context: &Context, path: &str, request: Request, pretty: bool) -> Response {
        // Health is answered whatever the method, as upstream's.
        if let Some(answer) = self.health.get(path, context).await {
            return answer;
        }
        if path == "/metrics/slis" {
            return answer::bytes(StatusCode::OK, METRICS, self.health.metrics().await);
        }
        let found = match self.document(path, request.headers(), pretty) {
            Some(answer) => Some(answer),
            None => openapi::answer(path, context.param("hash"), request.headers()).await,
        };
        match found {
            Some(answer) if matches!(*request.method(), Method::GET | Method::HEAD) => answer,
            // Upstream's handler of a group's document looks at no method.
            Some(answer) if path.strip_prefix("/apis/").is_some_and(is_group) => answer,
            Some(_) => answer::refuse(&method_not_allowed(), pretty),
            None if self.is_below_api(path) => answer::refuse(&Status::unknown_path(), pretty),
            None => not_found(),
        }
    }

    /// The path names a version that is not served, of something that is.
    fn is_below_api(&self, path: &str) -> bool {
        match path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
            ["api", _] => true,
            ["apis", group, _] => self.discovery.paths().any(|known| known == format!("/apis/{group}")),
            _ => false,
        }
    }

    fn document(&self, path: &str, headers: &HeaderMap, pretty: bool) -> Option<Response> {
        let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let accounts = self.authenticator.service_accounts();
        Some(match trimmed {
            "/" | "/index.html" => answer::json(StatusCode::OK, &json!({"paths": self.paths()}), true),
            "/version" => answer::json(StatusCode::OK, &version::document(), true),
            "/metrics" => answer::bytes(StatusCode::OK, METRICS, metrics::render()),
            "/.well-known/openid-configuration" => {
                cached(answer::json(StatusCode::OK, &accounts.openid_configuration(), false))
            }
            "/openid/v1/jwks" => {
                let body = serde_json::to_vec(&accounts.jwks()).expect("a tree of JSON values always encodes");
                cached(answer::bytes(StatusCode::OK, "application/jwk-set+json", body))
            }
            _ => return self.discovery.get(path, headers, pretty),
        })
    }

    fn paths(&self) -> Vec<String> {
        let fixed = self.discovery.paths().chain(PATHS).map(str::to_owned);
        let mut paths: Vec<String> = fixed.chain(self.health.paths()).collect();
        paths.sort_unstable();
        paths
    }
}

fn cached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(Reason::MethodNotAllowed, message).with_details(api::status::Details::default())
}

fn is_group(name: &str) -> bool {
    !name.trim_end_matches('/').is_empty() && !name.trim_end_matches('/').contains('/')
}

fn not_found() -> Response {
    let mut response = answer::text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
