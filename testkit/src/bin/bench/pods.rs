//! From the create of a pod to its being seen as Running, on a real node.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use testkit::image::Image;
use tokio::time::timeout;

use crate::{
    cluster::Cluster,
    connection::{Connection, Target},
    report::{Table, milliseconds, percentile},
};

const PODS: usize = 50;
const IMAGE: &str = "ironclad.test/bench:1";
const PATH: &str = "/api/v1/namespaces/default/pods";
/// For one pod.
const DEADLINE: Duration = Duration::from_secs(30);
/// An event that is longer than this is none of a pod.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One pod after another; all stay until the end.
pub(crate) async fn measure(cluster: &Cluster) -> Result<()> {
    load_image(cluster)?;
    let target = Target::load(&cluster.kubeconfig())?;
    let mut connection = target.connect().await?;
    let mut table =
        Table::new("create of a pod until it is Running, one after another", &["p50", "p99", "of", "budget"]);
    let mut stages: [Vec<f64>; 3] = Default::default();
    for n in 0..PODS {
        let times = create(&mut connection, &format!("bench-{n}")).await.with_context(|| format!("pod {n}"))?;
        stages.iter_mut().zip(times).for_each(|(stage, seconds)| stage.push(seconds));
    }
    let names = ["the create is answered", "it has a node", "it is Running"];
    for ((what, seconds), budget) in names.iter().zip(&mut stages).zip(["", "", "p50 200 ms"]) {
        let (median, worst) = (percentile(seconds, 0.5), percentile(seconds, 0.99));
        table.row(what, &[milliseconds(median), milliseconds(worst), PODS.to_string(), budget.to_owned()]);
    }
    table.print();
    connection.count(Method::DELETE, &format!("{PATH}?gracePeriodSeconds=0"), Bytes::new()).await.map(drop)
}

fn load_image(cluster: &Cluster) -> Result<()> {
    let mut image = Image::busybox(IMAGE)?;
    image.entrypoint(&["sleep", "3600"]);
    let path = cluster.folder().join("bench.tar");
    image.save(&path)?;
    cluster.run(&["image", "load", &path.to_string_lossy()], &[]).map(drop)
}

/// Creates one and follows it: seconds to the answer, to the node, to Running.
async fn create(connection: &mut Connection, name: &str) -> Result<[f64; 3]> {
    let watch = format!("{PATH}?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut events = connection.open(Method::GET, &watch, Bytes::new()).await?.into_body();
    let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never"});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let started = Instant::now();
    connection.count(Method::POST, PATH, pod.to_string().into()).await?;
    let answered = started.elapsed().as_secs_f64();
    let mut scheduled = None;
    let mut pending = Vec::new();
    loop {
        let frame = timeout(DEADLINE, events.frame()).await.context("not Running in time")?;
        pending.extend_from_slice(frame.context("the watch ended")??.data_ref().context("data")?);
        anyhow::ensure!(pending.len() < EVENT_BYTES_MAX, "an event without an end");
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            let elapsed = started.elapsed().as_secs_f64();
            if event["object"]["spec"]["nodeName"].is_string() {
                scheduled.get_or_insert(elapsed);
            }
            if event["object"]["status"]["phase"] == "Running" {
                return Ok([answered, scheduled.unwrap_or(elapsed), elapsed]);
            }
        }
    }
}
