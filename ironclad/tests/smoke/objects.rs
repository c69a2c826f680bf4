//! The life of objects: apply, diff, edit, wait, delete with dependents.

use anyhow::{Result, ensure};
use testkit::{kubectl::Kubectl, poll::until};

use crate::cluster::{Cluster, SOON};

pub(crate) fn life(cluster: &Cluster) -> Result<()> {
    for (at, kubectl) in cluster.kubectls().iter().enumerate() {
        let name = format!("objects-{at}");
        cluster.namespace(&name)?;
        let kubectl = kubectl.within(&name);
        apply(&kubectl)?;
        edit(&kubectl)?;
        cascade(&kubectl)?;
    }
    Ok(())
}

fn config(data: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{{data}}}\n")
}

/// Create, change, prune a field.
fn apply(kubectl: &Kubectl) -> Result<()> {
    ensure!(kubectl.apply(&config("a: one, b: two"))?.contains("created"));
    ensure!(kubectl.apply(&config("a: one, b: two"))?.contains("unchanged"));
    let changed = config("a: other");
    let diff = kubectl.output(&["diff", "-f", "-"], &changed)?;
    let text = String::from_utf8_lossy(&diff.stdout);
    ensure!(diff.status.code() == Some(1) && text.contains("-  a: one") && text.contains("+  a: other"), "{diff:?}");
    ensure!(kubectl.apply(&changed)?.contains("configured"));
    let data = kubectl.field("configmap/settings", "{.data}")?;
    ensure!(data == r#"{"a":"other"}"#, "{data}");
    ensure!(kubectl.output(&["diff", "-f", "-"], &changed)?.status.success(), "nothing differs");
    Ok(())
}

fn edit(kubectl: &Kubectl) -> Result<()> {
    let mut command = kubectl.command(&["edit", "configmap/settings"]);
    let output = command.env("KUBE_EDITOR", "sed -i s/other/edited/").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(kubectl.field("configmap/settings", "{.data.a}")? == "edited");
    kubectl.run(&["label", "configmap/settings", "tier=test"])?;
    kubectl.run(&["annotate", "configmap/settings", "note=here"])?;
    kubectl.run(&[
        "patch",
        "configmap/settings",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/c","value":"3"}]"#,
    ])?;
    kubectl.shows(&["get", "configmaps", "-l", "tier=test", "-o", "yaml"], "note: here")?;
    kubectl.run(&["wait", "--for=jsonpath={.data.c}=3", "configmap/settings", "--timeout=10s"])?;
    kubectl.run(&["create", "secret", "generic", "token", "--from-literal=key=value"])?;
    kubectl.shows(&["describe", "secret", "token"], "5 bytes")?;
    kubectl.run(&["create", "token", "default"])?;
    Ok(())
}

/// Foreground: the owner goes after its pods.
fn cascade(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["create", "deployment", "owner", "--image=ironclad.test/web:1", "--replicas=2"])?;
    kubectl.run(&["wait", "--for=condition=Available", "deployment/owner", "--timeout=90s"])?;
    kubectl.run(&["delete", "deployment", "owner", "--cascade=foreground", "--timeout=90s"])?;
    let left = kubectl.run(&["get", "pods,replicasets", "-l", "app=owner", "-o", "name"])?;
    ensure!(left.trim().is_empty(), "left after the owner: {left}");

    kubectl.run(&["create", "deployment", "owner", "--image=ironclad.test/web:1"])?;
    kubectl.run(&["wait", "--for=condition=Available", "deployment/owner", "--timeout=90s"])?;
    kubectl.run(&["delete", "deployment", "owner", "--cascade=orphan"])?;
    let orphan = kubectl.run(&["get", "replicasets", "-l", "app=owner", "-o", "name"])?;
    ensure!(orphan.lines().count() == 1, "the replica set stays: {orphan}");
    kubectl.run(&["delete", orphan.trim()])?;
    until("background deletion", SOON, || {
        let pods = kubectl.run(&["get", "pods", "-l", "app=owner", "-o", "name"])?;
        ensure!(pods.trim().is_empty(), "{pods}");
        Ok(())
    })
}
