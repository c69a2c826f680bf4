//! What many objects cost: memory a pod, the memory that big lists leave behind, and the start with all of them there.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    compare::{Sample, Unit},
    connection::{Format, Target},
    load::{self, Load},
    objects, process, requests,
    subject::Subject,
};

/// Creates at once.
const IN_FLIGHT: usize = 100;
/// For one step of filling: upstream's server makes about a thousand pods a second on two cores.
const FILL_LIMIT: Duration = Duration::from_secs(600);
/// Lists of everything, in each encoding.
const LISTS: usize = 3;
const LIST_LIMIT: Duration = Duration::from_secs(120);
/// After the lists, until memory is looked at again.
const REST: Duration = Duration::from_secs(15);

/// How many pods, lowest first.
pub(crate) struct Steps(pub(crate) Vec<usize>);

/// Fills an empty server step by step, lists everything, and starts it again.
pub(crate) async fn sample(subject: Subject, steps: &Steps) -> Result<Sample> {
    let mut sample = Sample::default();
    let target = Target::load(&subject.kubeconfig())?;
    requests::prepare(&mut target.connect().await?).await?;
    let memory = |subject: &Subject| process::memory(&subject.pids()).0 as f64;
    let empty = memory(&subject);
    sample.add("memory of all processes, no pods", Unit::Kilobytes, empty / 1e3);
    let mut there = 0;
    for &pods in &steps.0 {
        fill(&target, there, pods).await?;
        there = pods;
        let each = (memory(&subject) - empty) / pods as f64;
        sample.add(format!("memory a pod, {pods} pods of 1.5 KB"), Unit::Kilobytes, each / 1e3);
    }
    for format in [Format::Json, Format::Protobuf] {
        let listed = list(&target.speaking(format), there).await?;
        sample.add(format!("LIST {there} pods, {}", format.name()), Unit::Milliseconds, listed * 1e3);
    }
    sample.add("memory a pod, after these lists", Unit::Kilobytes, (memory(&subject) - empty) / there as f64 / 1e3);
    tokio::time::sleep(REST).await;
    let what = format!("memory a pod, {} s later", REST.as_secs());
    sample.add(what, Unit::Kilobytes, (memory(&subject) - empty) / there as f64 / 1e3);
    let (subject, seconds) = subject.restart().await?;
    sample.add(format!("start to /readyz with {there} pods"), Unit::Milliseconds, seconds * 1e3);
    check(&subject.kubeconfig(), there).await?;
    Ok(sample)
}

async fn fill(target: &Target, there: usize, pods: usize) -> Result<()> {
    let make = requests::create("pods", "scale", objects::pod, target.format())?;
    let make = std::sync::Arc::new(move |n: usize| make(there + n));
    let load = Load { in_flight: IN_FLIGHT, count: pods - there, limit: FILL_LIMIT, make };
    let done = load::run(target, &[], &load).await?.done;
    ensure!(done == pods - there, "only {} of {pods} pods were made in {FILL_LIMIT:?}", there + done);
    Ok(())
}

/// The median time of a list of all pods, in seconds.
async fn list(target: &Target, pods: usize) -> Result<f64> {
    let make = requests::list("resourceVersion=0");
    let load = Load { in_flight: 1, count: LISTS, limit: LIST_LIMIT, make };
    let outcome = load::run(target, &[], &load).await?;
    let least = outcome.done * pods * objects::POD_BYTES_MIN;
    ensure!(outcome.bytes >= least, "a list of {pods} pods had {} bytes", outcome.bytes / outcome.done.max(1));
    Ok(outcome.latency(0.5))
}

/// Everything is there after the start.
async fn check(kubeconfig: &Path, pods: usize) -> Result<()> {
    let name = objects::numbered("scale", pods - 1);
    let path = format!("{}/{name}", requests::path("pods"));
    Target::load(kubeconfig)?.connect().await?.count(http::Method::GET, &path, bytes::Bytes::new()).await.map(drop)
}
