//! Rates of single requests: creates, reads, lists.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use crate::{
    connection::{Connection, Target},
    load::{self, Load, Make},
    objects::{self, NAMESPACE},
    process,
    report::{Table, megabytes, milliseconds},
};

/// How many pods a list has.
const LISTED: usize = 5_000;
/// More than any row reaches in its time.
const MANY: usize = 1_000_000;
/// How many lists a row has at most.
const LISTS: usize = 50;

/// A row: its name, how many at once, how many at most, the requests, the budget.
struct Case {
    what: &'static str,
    in_flight: usize,
    count: usize,
    make: Make,
    budget: &'static str,
}

/// Fills a namespace, measures, and empties it again.
pub(crate) async fn measure(target: &Target, pids: &[u32], limit: Duration) -> Result<()> {
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

async fn rows(target: &Target, pids: &[u32], limit: Duration) -> Result<()> {
    let columns = ["in flight", "requests", "server CPU us/op", "ops/s", "p50", "p99", "budget"];
    let mut table =
        Table::new("requests: HTTPS/2, client certificate, server and generator on the same cores", &columns);
    let (before, _) = process::memory(pids);
    fill(target).await?;
    let (filled, _) = process::memory(pids);
    for case in cases() {
        let Case { what, in_flight, count, make, budget } = case;
        let mut outcome = load::run(target, pids, &Load { in_flight, count, limit, make }).await?;
        let cells = [
            in_flight.to_string(),
            outcome.done.to_string(),
            format!("{:.0}", outcome.cpu_microseconds()),
            format!("{:.0}", outcome.rate()),
            milliseconds(outcome.latency(0.5)),
            milliseconds(outcome.latency(0.99)),
            budget.to_owned(),
        ];
        table.row(what, &cells);
    }
    table.print();
    let (after, _) = process::memory(pids);
    let mut table = Table::new("memory of the server", &["resident", "budget"]);
    let none = String::new;
    table.row("before", &[megabytes(before), none()]);
    table.row(&format!("with {LISTED} pods of 1.5 KB"), &[megabytes(filled), none()]);
    let each = filled.saturating_sub(before) / LISTED as u64;
    table.row("growth a pod", &[format!("{:.1} KB", each as f64 / 1e3), "6.0 KB".to_owned()]);
    table.row("after all rows", &[megabytes(after), "returned".to_owned()]);
    table.print();
    Ok(())
}

/// The pods that are read and listed.
async fn fill(target: &Target) -> Result<()> {
    let limit = Duration::from_secs(120);
    let load = Load { in_flight: 100, count: LISTED, limit, make: create("pods", "listed", objects::pod) };
    load::run(target, &[], &load).await.map(drop)
}

/// Objects with names of their own.
pub(crate) fn create(resource: &'static str, prefix: &'static str, object: fn(&str) -> Vec<u8>) -> Make {
    Arc::new(move |n| (Method::POST, path(resource), object(&format!("{prefix}-{n}")).into()))
}

fn read(query: &'static str) -> Make {
    Arc::new(move |n| (Method::GET, format!("{}/listed-{}{query}", path("pods"), n % LISTED), Bytes::new()))
}

fn list(query: &'static str) -> Make {
    Arc::new(move |_| (Method::GET, format!("{}?labelSelector=app%3Dweb&{query}", path("pods")), Bytes::new()))
}

/// Lists first, as long as the namespace holds what it should.
fn cases() -> Vec<Case> {
    let case = |what, in_flight, count, make, budget| Case { what, in_flight, count, make, budget };
    let all: fn(&'static str) -> Make =
        |query| Arc::new(move |_| (Method::GET, format!("{}?{query}", path("pods")), Bytes::new()));
    vec![
        case("LIST 5,000 pods, consistent", 1, LISTS, all(""), "25 ms"),
        case("LIST 5,000 pods, rv=0", 1, LISTS, all("resourceVersion=0"), "25 ms"),
        case("LIST 5,000 pods by a label that all have, rv=0", 1, LISTS, list("resourceVersion=0"), ""),
        case("LIST 500 of 5,000 pods", 1, LISTS * 10, all("limit=500"), ""),
        case("GET pod, consistent", 1, MANY, read(""), ""),
        case("GET pod, consistent", 100, MANY, read(""), ""),
        case("GET pod, rv=0", 1, MANY, read("?resourceVersion=0"), ""),
        case("GET pod, rv=0", 100, MANY, read("?resourceVersion=0"), "50,000/s"),
        case("POST config map of 1 KB", 1, MANY, create("configmaps", "one", objects::config_map), ""),
        case("POST config map of 1 KB", 100, MANY, create("configmaps", "many", objects::config_map), ""),
        case("POST pod of 1.5 KB", 1, MANY, create("pods", "one", objects::pod), "0.45 ms"),
        case("POST pod of 1.5 KB", 100, MANY, create("pods", "many", objects::pod), "15,000/s"),
    ]
}
