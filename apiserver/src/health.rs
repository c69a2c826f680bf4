//! `/healthz`, `/livez`, `/readyz`: a list of checks, all together or one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::StatusCode;

use crate::answer::{self, Response};
use crate::request::Context;

const READY: &str = "readyz";
const ENDPOINTS: [&str; 3] = ["healthz", "livez", READY];
/// The longest that one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// One check.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    probe: Probe,
    only_ready: bool,
    /// Its last outcome was a failure, and was logged.
    failing: Arc<AtomicBool>,
}

/// Set once by a step of the start.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// The step is done.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// The step is done.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Check {
    /// A check that asks.
    pub fn new<F>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    {
        Self { name, probe: Arc::new(probe), only_ready: false, failing: Arc::default() }
    }

    /// A check that holds from some step on.
    pub fn when(name: &'static str, flag: &Flag) -> Self {
        let flag = flag.clone();
        Self::new(name, move || {
            let outcome = if flag.is_set() { Ok(()) } else { Err("not finished".to_owned()) };
            Box::pin(std::future::ready(outcome))
        })
    }

    /// Asked by `/readyz` alone.
    #[must_use]
    pub fn only_ready(mut self) -> Self {
        self.only_ready = true;
        self
    }
}

/// The checks in upstream's order.
#[derive(Clone, Default)]
pub struct Health(Arc<[Check]>);

impl Health {
    /// The order is that of the verbose answer.
    pub fn new(checks: Vec<Check>) -> Self {
        Self(checks.into())
    }

    /// Answers `/healthz`, `/livez`, `/readyz` and the single checks below them; None for other paths.
    pub async fn get(&self, path: &str, context: &Context) -> Option<Response> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let endpoint = parts.next()?;
        if !ENDPOINTS.contains(&endpoint) {
            return None;
        }
        let mut checks = self.checks(endpoint);
        match parts.next() {
            None => Some(all(endpoint, checks, context).await),
            Some(name) => {
                let check = checks.find(|check| check.name == name)?;
                Some(match ask(check).await {
                    Ok(()) => answer::text(StatusCode::OK, "ok"),
                    Err(error) => failure(format!("internal server error: {error}\n")),
                })
            }
        }
    }
}

impl Health {
    /// Every path that is answered.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        ENDPOINTS.into_iter().flat_map(|endpoint| {
            let checks = self.checks(endpoint).map(move |check| format!("/{endpoint}/{}", check.name));
            std::iter::once(format!("/{endpoint}")).chain(checks)
        })
    }

    fn checks(&self, endpoint: &str) -> impl Iterator<Item = &Check> {
        let is_ready = endpoint == READY;
        self.0.iter().filter(move |check| is_ready || !check.only_ready)
    }

    /// Every check's outcome now, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        let mut text = String::from(
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
             # TYPE kubernetes_healthcheck gauge\n",
        );
        for check in self.0.iter() {
            let outcome = u8::from(ask(check).await.is_ok());
            let kinds: &[&str] = if check.only_ready { &["readyz"] } else { &["healthz", "livez", "readyz"] };
            for kind in kinds {
                let name = check.name;
                text.push_str(&format!("kubernetes_healthcheck{{name=\"{name}\",type=\"{kind}\"}} {outcome}\n"));
            }
        }
        text
    }
}

async fn ask(check: &Check) -> Result<(), String> {
    match tokio::time::timeout(CHECK_TIMEOUT, (check.probe)()).await {
        Ok(outcome) => outcome,
        Err(_) => Err("timed out".to_owned()),
    }
}

/// Logs what has changed: whoever waits for a server asks many times.
fn report(check: &Check, outcome: &Result<(), String>) {
    let (name, failed) = (check.name, outcome.is_err());
    if check.failing.swap(failed, Ordering::AcqRel) == failed {
        return;
    }
    match outcome {
        Ok(()) => tracing::info!(check = name, "a check holds again"),
        Err(error) => tracing::info!(check = name, error, "a check fails"),
    }
}

async fn all(endpoint: &str, checks: impl Iterator<Item = &Check>, context: &Context) -> Response {
    let mut excluded: Vec<&str> = context.params("exclude").collect();
    let mut text = String::new();
    let mut failed = Vec::new();
    for check in checks {
        let name = check.name;
        if let Some(at) = excluded.iter().position(|one| *one == name) {
            excluded.remove(at);
            text.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let outcome = ask(check).await;
        report(check, &outcome);
        match outcome {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(name);
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if !failed.is_empty() {
        return failure(format!("{text}{endpoint} check failed\n"));
    }
    if context.param("verbose").is_none() {
        return with_nosniff(answer::text(StatusCode::OK, "ok"));
    }
    with_nosniff(answer::text(StatusCode::OK, format!("{text}{endpoint} check passed\n")))
}

fn failure(text: String) -> Response {
    with_nosniff(answer::text(StatusCode::INTERNAL_SERVER_ERROR, text))
}

fn with_nosniff(mut response: Response) -> Response {
    let nosniff = http::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
