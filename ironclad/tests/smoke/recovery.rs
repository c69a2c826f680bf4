//! What is killed comes back, and loses nothing.

use anyhow::{Context as _, Result, ensure};
use testkit::{kubectl::Kubectl, poll::until};

use crate::cluster::{Cluster, SOON, kill};

const RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";

pub(crate) fn killed_container(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.namespace("killed")?;
    kubectl.apply(
        r#"{apiVersion: v1, kind: Pod, metadata: {name: victim}, spec: {terminationGracePeriodSeconds: 1,
            containers: [{name: c, image: "ironclad.test/web:1", command: [sleep, "424242"]}]}}"#,
    )?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/victim", "--timeout=90s"])?;
    let node = kubectl.field("pod/victim", "{.spec.nodeName}")?;
    for restarts in ["1", "2"] {
        until("a process to kill", SOON, || cluster.processes(&node, "424242")?.into_iter().try_for_each(kill))?;
        until("a restart", SOON, || {
            let count = kubectl.field("pod/victim", RESTARTS)?;
            ensure!(count == restarts, "restarted {count} times");
            ensure!(kubectl.field("pod/victim", "{.status.phase}")? == "Running");
            Ok(())
        })?;
    }
    kubectl.shows(&["describe", "pod", "victim"], "Exit Code:    137")?;
    kubectl.shows(&["describe", "pod", "victim"], "Back-off restarting failed container")?;
    Ok(())
}

/// The deployment of the scenarios before, whose replicas answer on the published port.
fn web(cluster: &Cluster) -> Kubectl {
    cluster.kubectl().within("workload")
}

fn answers(cluster: &Cluster) -> Result<()> {
    cluster.get("/").map(drop).context("the workload answers")
}

pub(crate) fn killed_control_plane(cluster: &Cluster) -> Result<()> {
    let kubectl = web(cluster);
    let node = cluster.nodes()?.remove(0);
    for pid in cluster.processes(&node, "ironclad server")? {
        kill(pid)?;
    }
    for _ in 0..10 {
        answers(cluster)?;
    }
    until("the API answers again", SOON, || kubectl.run(&["get", "nodes"]))?;
    let restarts = kubectl.run(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[0].restartCount}",
    ])?;
    ensure!(restarts.split_whitespace().all(|r| r == "0"), "containers were restarted: {restarts}");
    kubectl.run(&["scale", "deployment/web", "--replicas=4"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?;
    answers(cluster)
}

pub(crate) fn stopped_node(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.namespace("moved")?;
    let node = cluster.nodes()?.pop().context("there is a second node")?;
    kubectl.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: mover}}
spec:
  selector: {{matchLabels: {{app: mover}}}}
  template:
    metadata: {{labels: {{app: mover}}}}
    spec:
      affinity: {{nodeAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 100, preference:
        {{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}}}]}}}}
      tolerations:
      - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
      - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
      containers: [{{name: c, image: "ironclad.test/web:1"}}]
"#
    ))?;
    kubectl.run(&["rollout", "status", "deployment/mover", "--timeout=90s"])?;
    kubectl.shows(&["get", "pods", "-o", "wide"], &node)?;
    for pid in cluster.processes(&node, "ironclad agent")? {
        stop(pid)?;
    }
    let moved = until("the pod moves", SOON * 3, || {
        let nodes = kubectl.run(&[
            "get",
            "pods",
            "--field-selector=status.phase=Running",
            "-o",
            "jsonpath={range .items[*]}{.spec.nodeName} {.metadata.deletionTimestamp}{\"\\n\"}{end}",
        ])?;
        ensure!(nodes.lines().any(|line| line.trim_end() != node && !line.starts_with(&format!("{node} "))), "{nodes}");
        Ok(())
    });
    for pid in cluster.processes(&node, "ironclad agent")? {
        resume(pid)?;
    }
    moved?;
    kubectl.run(&["wait", "--for=condition=Ready", &format!("node/{node}"), "--timeout=180s"])?;
    Ok(())
}

fn stop(pid: i32) -> Result<()> {
    signal(pid, nix::sys::signal::Signal::SIGSTOP)
}

fn resume(pid: i32) -> Result<()> {
    signal(pid, nix::sys::signal::Signal::SIGCONT)
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) -> Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?;
    Ok(())
}

pub(crate) fn deleted_namespace(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.namespace("doomed")?;
    kubectl.run(&["create", "deployment", "d", "--image=ironclad.test/web:1", "--replicas=2"])?;
    kubectl.run(&["create", "configmap", "c", "--from-literal=a=b"])?;
    kubectl.run(&["wait", "--for=condition=Available", "deployment/d", "--timeout=90s"])?;
    kubectl.run(&["delete", "namespace", "doomed", "--timeout=120s"])?;
    let said = kubectl.fails(&["get", "namespace", "doomed"])?;
    ensure!(said.contains("not found"), "{said}");
    let left = kubectl.run(&[
        "get",
        "pods,deployments,replicasets,configmaps,secrets,serviceaccounts,events",
        "-o",
        "name",
    ])?;
    ensure!(left.trim().is_empty(), "left in the namespace: {left}");
    Ok(())
}

/// Everything of the cluster is killed at once; `up` brings objects and workloads back.
pub(crate) fn power_cut(cluster: &Cluster) -> Result<()> {
    let kubectl = web(cluster);
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    let uid = kubectl.field("deployment/web", "{.metadata.uid}")?;
    let nodes = cluster.nodes()?;
    for node in nodes {
        kill(cluster.init(&node)?)?;
    }
    cluster.start()?;
    ensure!(kubectl.field("deployment/web", "{.metadata.uid}")? == uid, "the deployment is another");
    ensure!(kubectl.field("configmap/kept", "{.data.a}")? == "b");
    until("the workload answers", SOON, || answers(cluster))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    Ok(())
}
