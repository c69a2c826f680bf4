//! What the server counts, under upstream's names.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::request::{Target, Verb};

/// Upstream's buckets of `apiserver_request_duration_seconds`.
const DURATION_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// Labels are among known words: each set of them stays in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    verb: &'static str,
    dry_run: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

/// Paths that are no resources.
const KNOWN_PATHS: [&str; 8] = ["/api", "/apis", "/healthz", "/livez", "/readyz", "/metrics", "/openapi", "/version"];

type GaugeOf = Gauge<i64, AtomicI64>;

/// The server's metrics.
pub struct Metrics {
    requests: Family<OutcomeLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    in_flight: Family<KindLabels, GaugeOf>,
    long_running: Family<RequestLabels, GaugeOf>,
    handshake_errors: Counter,
}

/// One request, counted while this lives.
pub struct InFlight(GaugeOf);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers the metrics with the process.
    pub fn register() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(DURATION_SECONDS);
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            in_flight: Family::default(),
            long_running: Family::default(),
            handshake_errors: Counter::default(),
        };
        let mut registry = daemon::metrics::registry();
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, \
             component, and HTTP response code",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and \
             component",
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Number of currently served requests, for each request kind",
            metrics.in_flight.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running requests broken out by verb, group, version, resource, scope and component",
            metrics.long_running.clone(),
        );
        registry.register(
            "apiserver_tls_handshake_errors",
            "Number of requests dropped with a TLS handshake error",
            metrics.handshake_errors.clone(),
        );
        metrics
    }

    /// A request has been answered.
    pub fn request(&self, method: &Method, target: &Target, code: StatusCode, took: Duration, long_running: bool) {
        let labels = labels(method, target);
        let outcome = OutcomeLabels {
            verb: labels.verb,
            dry_run: "",
            group: labels.group,
            version: labels.version,
            resource: labels.resource,
            subresource: labels.subresource,
            scope: labels.scope,
            component: labels.component,
            code: u32::from(code.as_u16()),
        };
        self.requests.get_or_create(&outcome).inc();
        if !long_running {
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// A request is being served.
    pub fn in_flight(&self, is_read: bool) -> InFlight {
        let request_kind = if is_read { "readOnly" } else { "mutating" };
        counted(&self.in_flight.get_or_create(&KindLabels { request_kind }))
    }

    /// A long-running request is being served.
    pub fn long_running(&self, target: &Target) -> InFlight {
        counted(&self.long_running.get_or_create(&labels(&Method::GET, target)))
    }

    /// A connection did not get through its handshake.
    pub fn handshake_failed(&self) {
        self.handshake_errors.inc();
    }
}

fn counted(gauge: &GaugeOf) -> InFlight {
    gauge.inc();
    InFlight(gauge.clone())
}

/// Names that clients make up are not labels: an unknown path counts as one.
fn labels(method: &Method, target: &Target) -> RequestLabels {
    let mut labels = RequestLabels { component: "apiserver", ..RequestLabels::default() };
    match target {
        Target::Resource(path) => {
            let known = api::schema::table().resource(&path.group, &path.version, &path.resource);
            labels.verb = match path.verb {
                Verb::Get => "GET",
                Verb::List => "LIST",
                Verb::Watch => "WATCH",
                Verb::Create => "POST",
                Verb::Update => "PUT",
                Verb::Patch => "PATCH",
                Verb::Delete => "DELETE",
                Verb::DeleteCollection => "DELETECOLLECTION",
                Verb::Proxy | Verb::Other => word(method),
            };
            labels.scope = match (path.name.is_empty(), path.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            };
            let Some(known) = known else {
                return labels;
            };
            (labels.group, labels.version, labels.resource) = (known.group, known.version, known.name);
            labels.subresource = known.subresource(&path.subresource).map_or("", |subresource| subresource.name);
        }
        Target::Path { path, .. } => {
            labels.verb = word(method);
            let first = path.split('/').nth(1).unwrap_or_default();
            let known = KNOWN_PATHS.iter().find(|known| known[1..] == *first);
            labels.subresource = known.copied().unwrap_or_default();
        }
    }
    labels
}

/// Anybody may send any word as a method, so those that no client needs count as one, as upstream's.
fn word(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 6] = [
        (Method::GET, "GET"),
        (Method::HEAD, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, word)| word)
}

/// Everything as Prometheus' text format 0.0.4, which names a counter with its suffix.
pub fn render() -> String {
    let mut text = String::new();
    let rendered = daemon::metrics::render();
    for line in rendered.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        text.push_str(&plain(line, &rendered));
        text.push('\n');
    }
    text
}

fn plain(line: &str, all: &str) -> String {
    let is_counter = |name: &str| all.contains(&format!("# TYPE {name} counter\n"));
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some("TYPE"), Some(name), Some("counter")) => format!("# TYPE {name}_total counter"),
        (Some("#"), Some("HELP"), Some(name), help) if is_counter(name) => {
            format!("# HELP {name}_total {}", help.unwrap_or_default())
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_count_as_one() {
        for (sent, counted) in
            [("GET", "GET"), ("HEAD", "GET"), ("PATCH", "PATCH"), ("OPTIONS", "other"), ("AAA1", "other")]
        {
            let method = Method::from_bytes(sent.as_bytes()).unwrap();
            assert_eq!(word(&method), counted, "{sent}");
        }
    }
}
