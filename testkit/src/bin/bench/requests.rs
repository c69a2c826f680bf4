//! Rates of single requests: creates, reads, lists, in JSON and in protobuf.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use crate::{
    connection::{Connection, Format, Target},
    load::{self, Load, Make, Outcome},
    objects::{self, NAMESPACE, Template},
    process,
    report::{Table, megabytes, milliseconds},
};

/// How many pods a list has.
pub(crate) const LISTED: usize = 5_000;
/// More than any row reaches in its time.
const MANY: usize = 1_000_000;
/// How many lists a row has at most.
const LISTS: usize = 50;

/// A row: its name, the encoding, how many at once, how many at most, the requests, the budget.
struct Case {
    what: &'static str,
    format: Format,
    in_flight: usize,
    count: usize,
    make: Make,
    budget: &'static str,
}

/// What came of a row.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) format: Format,
    pub(crate) in_flight: usize,
    pub(crate) outcome: Outcome,
    budget: &'static str,
}

/// Everything that was measured.
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Memory,
}

/// Resident, in bytes: of all the server's processes.
pub(crate) struct Memory {
    pub(crate) before: u64,
    /// With [`LISTED`] pods.
    pub(crate) filled: u64,
    pub(crate) after: u64,
}

impl Memory {
    pub(crate) fn each_pod(&self) -> f64 {
        self.filled.saturating_sub(self.before) as f64 / LISTED as f64
    }
}

/// Fills a namespace, measures, and empties it again.
pub(crate) async fn measure(target: &Target, pids: &[u32], limit: Duration) -> Result<Measured> {
    let mut connection = target.connect().await?;
    prepare(&mut connection).await?;
    let measured = rows(target, pids, limit).await;
    clean(&mut connection).await?;
    measured
}

/// A namespace that can hold pods.
pub(crate) async fn prepare(connection: &mut Connection) -> Result<()> {
    let accounts = path("serviceaccounts");
    for (path, object) in [("/api/v1/namespaces", objects::namespace()), (&*accounts, objects::service_account())] {
        let made = connection.count(Method::POST, path, object.to_string().into()).await;
        // A cluster with controllers makes the account itself, and an earlier run may have left the namespace.
        if let Err(error) = made.as_ref().map_err(ToString::to_string)
            && !error.contains("409")
        {
            made?;
        }
    }
    Ok(())
}

/// Deletes what was created.
pub(crate) async fn clean(connection: &mut Connection) -> Result<()> {
    for resource in ["pods", "configmaps"] {
        let path = format!("{}?gracePeriodSeconds=0", path(resource));
        connection.count(Method::DELETE, &path, Bytes::new()).await?;
    }
    Ok(())
}

/// Deletes the namespace too: a cluster with controllers has nothing left then.
pub(crate) async fn remove_namespace(target: &Target) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    target.connect().await?.count(Method::DELETE, &path, Bytes::new()).await.map(drop)
}

/// Of a collection in the namespace.
pub(crate) fn path(resource: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{resource}")
}

async fn rows(target: &Target, pids: &[u32], limit: Duration) -> Result<Measured> {
    let (before, _) = process::memory(pids);
    fill(target).await?;
    let (filled, _) = process::memory(pids);
    let mut rows = Vec::new();
    for case in cases()? {
        let Case { what, format, in_flight, count, make, budget } = case;
        let load = Load { in_flight, count, limit, make };
        let outcome = load::run(&target.speaking(format), pids, &load).await?;
        rows.push(Row { what, format, in_flight, outcome, budget });
    }
    let (after, _) = process::memory(pids);
    Ok(Measured { rows, memory: Memory { before, filled, after } })
}

impl Measured {
    /// Prints it as tables of one server.
    pub(crate) fn print(&self) {
        let columns = ["encoding", "in flight", "requests", "server CPU us/op", "ops/s", "p50", "p99", "budget"];
        let mut table =
            Table::new("requests: HTTPS/2, client certificate, server and generator on the same cores", &columns);
        for row in &self.rows {
            let cells = [
                row.format.name().to_owned(),
                row.in_flight.to_string(),
                row.outcome.done.to_string(),
                format!("{:.0}", row.outcome.cpu_microseconds()),
                format!("{:.0}", row.outcome.rate()),
                milliseconds(row.outcome.latency(0.5)),
                milliseconds(row.outcome.latency(0.99)),
                row.budget.to_owned(),
            ];
            table.row(row.what, &cells);
        }
        table.print();
        let mut table = Table::new("memory of the server", &["resident", "budget"]);
        let none = String::new;
        table.row("before", &[megabytes(self.memory.before), none()]);
        table.row(&format!("with {LISTED} pods of 1.5 KB"), &[megabytes(self.memory.filled), none()]);
        table.row("growth a pod", &[format!("{:.1} KB", self.memory.each_pod() / 1e3), "6.0 KB".to_owned()]);
        table.row("after all rows", &[megabytes(self.memory.after), "returned".to_owned()]);
        table.print();
    }
}

/// The pods that are read and listed.
async fn fill(target: &Target) -> Result<()> {
    let limit = Duration::from_secs(120);
    let make = create("pods", "listed", objects::pod, target.format())?;
    load::run(target, &[], &Load { in_flight: 100, count: LISTED, limit, make }).await.map(drop)
}

/// Objects with names of their own.
pub(crate) fn create(
    resource: &'static str,
    prefix: &'static str,
    object: fn(&str) -> Vec<u8>,
    format: Format,
) -> Result<Make> {
    let template = Template::new(prefix, object, format)?;
    Ok(Arc::new(move |n| (Method::POST, path(resource), template.numbered(n))))
}

fn read(query: &'static str) -> Make {
    Arc::new(move |n| {
        let name = objects::numbered("listed", n % LISTED);
        (Method::GET, format!("{}/{name}{query}", path("pods")), Bytes::new())
    })
}

/// Lists of pods.
pub(crate) fn list(query: &'static str) -> Make {
    Arc::new(move |_| (Method::GET, format!("{}?{query}", path("pods")), Bytes::new()))
}

/// Lists first, as long as the namespace holds what it should.
fn cases() -> Result<Vec<Case>> {
    use Format::{Json, Protobuf};
    let case = |what, format, in_flight, count, make, budget| Case { what, format, in_flight, count, make, budget };
    let labelled = "labelSelector=app%3Dweb&resourceVersion=0";
    let mut cases = Vec::new();
    for format in [Json, Protobuf] {
        let is_budgeted = |budget| if format == Json { budget } else { "" };
        cases.extend([
            case("LIST 5,000 pods, consistent", format, 1, LISTS, list(""), is_budgeted("25 ms")),
            case("LIST 5,000 pods, rv=0", format, 1, LISTS, list("resourceVersion=0"), is_budgeted("25 ms")),
            case("LIST 500 of 5,000 pods", format, 1, LISTS * 10, list("limit=500"), ""),
            case("GET pod, consistent", format, 1, MANY, read(""), ""),
            case("GET pod, consistent", format, 100, MANY, read(""), ""),
            case("GET pod, rv=0", format, 1, MANY, read("?resourceVersion=0"), ""),
            case("GET pod, rv=0", format, 100, MANY, read("?resourceVersion=0"), is_budgeted("50,000/s")),
        ]);
    }
    cases.push(case("LIST 5,000 pods by a label that all have, rv=0", Json, 1, LISTS, list(labelled), ""));
    let maps = |prefix, format| create("configmaps", prefix, objects::config_map, format);
    let pods = |prefix, format| create("pods", prefix, objects::pod, format);
    cases.extend([
        case("POST config map of 1 KB", Json, 1, MANY, maps("one-json", Json)?, ""),
        case("POST config map of 1 KB", Json, 100, MANY, maps("many-json", Json)?, ""),
        case("POST pod of 1.5 KB", Json, 1, MANY, pods("one-json", Json)?, "0.45 ms"),
        case("POST pod of 1.5 KB", Json, 100, MANY, pods("many-json", Json)?, "15,000/s"),
        case("POST pod of 1.5 KB", Protobuf, 1, MANY, pods("one-protobuf", Protobuf)?, ""),
        case("POST pod of 1.5 KB", Protobuf, 100, MANY, pods("many-protobuf", Protobuf)?, ""),
    ]);
    Ok(cases)
}
