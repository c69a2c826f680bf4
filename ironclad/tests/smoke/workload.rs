//! A web server as users run one: replicas, a service, scaling, rolling out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use testkit::{kubectl::Kubectl, poll::until};

use crate::cluster::{Cluster, NODE_PORT, SOON, http_get};

const NAMESPACE: &str = "workload";

/// The deployment that most scenarios use. A pod that ends keeps serving until it is out of every rule.
fn manifest(image: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: {replicas}
  progressDeadlineSeconds: 20
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 10
      topologySpreadConstraints:
      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
      - name: web
        image: {image}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 3}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http, nodePort: {NODE_PORT}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: client, image: "ironclad.test/web:1", command: [sleep, "1000000"]}}]
"#
    )
}

fn kubectl(cluster: &Cluster) -> Result<Kubectl> {
    cluster.namespace(NAMESPACE)
}

pub(crate) fn deployment(cluster: &Cluster) -> Result<()> {
    let kubectl = kubectl(cluster)?;
    kubectl.apply(&manifest("ironclad.test/web:1", 3))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let nodes = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}"])?;
    let nodes: BTreeSet<&str> = nodes.split_whitespace().collect();
    ensure!(nodes.len() == 2, "all replicas are on {nodes:?}");
    kubectl.shows(&["get", "deployment", "web"], "3/3")?;
    kubectl.shows(&["describe", "deployment", "web"], "MinimumReplicasAvailable")?;
    Ok(())
}

/// Asks until every replica has answered.
fn every_replica_answers(kubectl: &Kubectl, what: &str, ask: impl Fn() -> Result<String>) -> Result<()> {
    let names = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let mut silent: BTreeSet<String> = names.split_whitespace().map(str::to_owned).collect();
    until(what, SOON, || {
        for _ in 0..10 {
            let answer = ask()?;
            silent.retain(|name| !answer.ends_with(name.as_str()));
        }
        ensure!(silent.is_empty(), "{silent:?} did not answer");
        Ok(())
    })
}

pub(crate) fn service(cluster: &Cluster) -> Result<()> {
    let kubectl = kubectl(cluster)?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=90s"])?;
    let address = kubectl.field("service/web", "{.spec.clusterIP}")?;
    for host in [address.as_str(), "web", "web.workload.svc.cluster.local"] {
        let url = format!("http://{host}/");
        every_replica_answers(&kubectl, &url, || {
            Ok(kubectl.run(&["exec", "client", "--", "curl", "-sS", "-m", "5", &url])?.trim().to_owned())
        })?;
    }
    let url = "https://kubernetes.default.svc/version";
    kubectl.shows(&["exec", "client", "--", "curl", "-sSk", "-m", "5", url], "gitVersion")?;
    Ok(())
}

pub(crate) fn node_port(cluster: &Cluster) -> Result<()> {
    every_replica_answers(&kubectl(cluster)?, &cluster.address(), || cluster.get("/"))
}

pub(crate) fn scale(cluster: &Cluster) -> Result<()> {
    let kubectl = kubectl(cluster)?;
    for replicas in ["30", "3"] {
        kubectl.run(&["scale", "deployment/web", "--replicas", replicas])?;
        kubectl.run(&["rollout", "status", "deployment/web", "--timeout=180s"])?;
        until("as many pods as asked for", SOON * 2, || {
            let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"])?;
            ensure!(pods.lines().count().to_string() == replicas, "{} pods", pods.lines().count());
            Ok(())
        })?;
    }
    Ok(())
}

/// Asks over the node port, one request after the other, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    fn start(address: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut good, mut bad) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match http_get(&address, "/") {
                    Ok(_) => good += 1,
                    Err(failure) => bad.push(format!("{failure:#}")),
                }
                thread::sleep(Duration::from_millis(10));
            }
            (good, bad)
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<(usize, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the load panicked")
    }
}

pub(crate) fn rollout(cluster: &Cluster) -> Result<()> {
    let kubectl = kubectl(cluster)?;
    let load = Load::start(cluster.address());
    let rolled = kubectl
        .run(&["set", "image", "deployment/web", "web=ironclad.test/web:2"])
        .and_then(|_| kubectl.run(&["rollout", "status", "deployment/web", "--timeout=120s"]));
    // The last old pods are still ending.
    let gone = until("the old pods are gone", SOON, || {
        let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"])?;
        ensure!(pods.lines().count() == 3, "{pods}");
        Ok(())
    });
    let (good, bad) = load.finish()?;
    rolled?;
    gone?;
    println!("  {good} requests answered during the rollout");
    ensure!(bad.is_empty(), "{} of {} requests failed: {:?}", bad.len(), good + bad.len(), &bad[..bad.len().min(3)]);
    ensure!(good > 50, "only {good} requests were made");
    let answer = cluster.get("/")?;
    ensure!(answer.starts_with("v2 "), "{answer}");
    kubectl.shows(&["rollout", "history", "deployment/web"], "2")?;
    Ok(())
}

pub(crate) fn broken_rollout(cluster: &Cluster) -> Result<()> {
    let kubectl = kubectl(cluster)?;
    kubectl.run(&["set", "image", "deployment/web", "web=ironclad.test/absent:1"])?;
    let condition = "{.status.conditions[?(@.type==\"Progressing\")].reason}";
    until("the rollout stalls", SOON, || {
        let reason = kubectl.field("deployment/web", condition)?;
        ensure!(reason == "ProgressDeadlineExceeded", "reason {reason:?}");
        Ok(())
    })?;
    let said = kubectl.fails(&["rollout", "status", "deployment/web", "--timeout=10s"])?;
    ensure!(said.contains("exceeded its progress deadline"), "{said}");
    kubectl.shows(&["get", "deployment", "web"], "3/3")?;
    ensure!(cluster.get("/")?.starts_with("v2 "), "the old version answers");
    kubectl.run(&["rollout", "undo", "deployment/web"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    ensure!(kubectl.field("deployment/web", condition)? == "NewReplicaSetAvailable");
    Ok(())
}
