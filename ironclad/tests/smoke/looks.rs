//! What a user looks at first.

use anyhow::{Result, ensure};
use testkit::poll::until;

use crate::cluster::{Cluster, SOON};

pub(crate) fn nodes(cluster: &Cluster) -> Result<()> {
    for kubectl in cluster.kubectls() {
        let nodes = kubectl.run(&["get", "nodes", "-o", "wide"])?;
        print!("{nodes}");
        ensure!(nodes.lines().filter(|l| l.contains(" Ready ")).count() == 2, "not two ready nodes:\n{nodes}");
        ensure!(nodes.contains("containerd://"), "{nodes}");
        until("running system pods", SOON, || {
            let pods = kubectl.run(&["get", "pods", "-A"])?;
            let waiting = pods.lines().skip(1).filter(|l| !l.contains("Running"));
            ensure!(pods.lines().count() > 1 && waiting.count() == 0, "{pods}");
            Ok(())
        })?;
        let first = cluster.nodes()?.remove(0);
        let described = kubectl.run(&["describe", "node", &first])?;
        for part in ["Allocatable:", "KubeletReady", "Non-terminated Pods:", "PodCIDR:"] {
            ensure!(described.contains(part), "describe node has no {part:?}:\n{described}");
        }
    }
    Ok(())
}

pub(crate) fn api(cluster: &Cluster) -> Result<()> {
    for kubectl in cluster.kubectls() {
        let resources = kubectl.run(&["api-resources"])?;
        for line in ["deployments", "endpointslices", "clusterroles", "poddisruptionbudgets", "flowschemas"] {
            ensure!(resources.contains(line), "api-resources has no {line}:\n{resources}");
        }
        let explained = kubectl.run(&["explain", "pod.spec.containers", "--recursive"])?;
        for field in ["livenessProbe", "imagePullPolicy", "-required-"] {
            ensure!(explained.contains(field), "explain has no {field}:\n{explained}");
        }
        kubectl.shows(&["explain", "deployment.spec.strategy.rollingUpdate.maxSurge"], "maximum number of pods")?;
        kubectl.shows(&["auth", "can-i", "--list"], "*.*")?;
        kubectl.shows(&["auth", "can-i", "create", "deployments"], "yes")?;
        let denied = kubectl
            .output(&["auth", "can-i", "get", "secrets", "--as", "system:serviceaccount:default:default"], "")?;
        ensure!(String::from_utf8_lossy(&denied.stdout).trim() == "no", "{denied:?}");
        kubectl.shows(&["cluster-info"], "is running at")?;
        kubectl.shows(&["version"], "Server Version: v1.37")?;
        kubectl.shows(&["describe", "namespace", "kube-system"], "Active")?;
    }
    Ok(())
}
