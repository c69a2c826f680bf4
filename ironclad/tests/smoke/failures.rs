//! What goes wrong is explained where users look: in `describe`, with upstream's reasons.

use anyhow::{Result, ensure};
use testkit::{kubectl::Kubectl, poll::until};

use crate::cluster::{Cluster, SOON};

/// A pod, its state in `get pods`, and what `describe` says.
struct Case {
    name: &'static str,
    spec: &'static str,
    state: &'static str,
    told: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "no-image",
        spec: r#"containers: [{name: c, image: "127.0.0.1:9/absent:1"}]"#,
        state: "ImagePullBackOff",
        told: &["Failed to pull image", "ErrImagePull", "Back-off pulling image"],
    },
    Case {
        name: "never-pulled",
        spec: r#"containers: [{name: c, image: "ironclad.test/absent:1", imagePullPolicy: Never}]"#,
        state: "ErrImageNeverPull",
        told: &["is not present with pull policy of Never"],
    },
    Case {
        name: "crashing",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", command: [sh, -c, "exit 4"]}]"#,
        state: "CrashLoopBackOff",
        told: &["Back-off restarting failed container c in pod crashing", "Exit Code:    4"],
    },
    Case {
        name: "no-command",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", command: [/absent]}]"#,
        state: "RunContainerError|CrashLoopBackOff",
        told: &["StartError", "/absent"],
    },
    Case {
        name: "unhealthy",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", command: [sleep, "1000"],
            readinessProbe: {exec: {command: [cat, /absent]}, periodSeconds: 1},
            livenessProbe: {httpGet: {path: /, port: 1}, periodSeconds: 1, failureThreshold: 2}}], terminationGracePeriodSeconds: 0"#,
        state: "Running|CrashLoopBackOff",
        told: &["Readiness probe failed", "Liveness probe failed", "failed liveness probe, will be restarted"],
    },
    Case {
        name: "too-big",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", resources: {requests: {cpu: "1000"}}}]"#,
        state: "Pending",
        told: &["FailedScheduling", "0/2 nodes are available: 2 Insufficient cpu."],
    },
    Case {
        name: "no-config",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", envFrom: [{configMapRef: {name: absent}}]}]"#,
        state: "CreateContainerConfigError",
        told: &["configmap \"absent\" not found"],
    },
    Case {
        name: "no-volume",
        spec: r#"containers: [{name: c, image: "ironclad.test/web:1", volumeMounts: [{name: v, mountPath: /v}]}],
            volumes: [{name: v, secret: {secretName: absent}}]"#,
        state: "ContainerCreating",
        told: &["FailedMount", "MountVolume.SetUp failed for volume \"v\" : secret \"absent\" not found"],
    },
];

pub(crate) fn explained(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.namespace("failures")?;
    for case in CASES {
        let Case { name, spec, .. } = case;
        kubectl.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}}}"))?;
    }
    for case in CASES {
        until(case.name, SOON, || is_explained(&kubectl, case))?;
    }
    kubectl.run(&["delete", "pods", "--all", "--wait=false", "--grace-period=1"])?;
    Ok(())
}

fn is_explained(kubectl: &Kubectl, case: &Case) -> Result<()> {
    let shown = kubectl.run(&["get", "pod", case.name, "--no-headers"])?;
    ensure!(case.state.split('|').any(|state| shown.contains(state)), "{shown}");
    let described = kubectl.run(&["describe", "pod", case.name])?;
    for told in case.told {
        ensure!(described.contains(told), "describe does not say {told:?}:\n{described}");
    }
    Ok(())
}
