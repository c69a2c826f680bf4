//! `ironclad apiserver` and `ironclad controller-manager` alone, with etcd when asked, and Node objects that stand for
//! nodes.
//!
//! The nodes send no heartbeats; the controllers' grace periods are longer than any run.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use pki::{Authority, Kubeconfig, Profile, TokenSigner, UserAuth};
use serde_json::{Value, json};
use testkit::{kubectl::Kubectl, poll::until};

use crate::Backend;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 2;
/// The first addresses of the services are the API server's own.
const SERVICES: &str = "10.96.0.0/12";

/// A control plane that ends with its owner.
pub(crate) struct Plane {
    folder: PathBuf,
    port: u16,
    /// Where etcd listens, when the objects are in one.
    etcd: Option<u16>,
    processes: Vec<Child>,
}

impl Plane {
    /// Starts one with its files in this folder, and waits until it has Ready nodes. `programs` is where upstream's
    /// programs are.
    pub(crate) fn start(ironclad: &Path, programs: &Path, folder: &Path, backend: Backend) -> Result<Self> {
        let etcd = (backend == Backend::Etcd).then(free_port).transpose()?;
        let mut plane = Self { folder: folder.to_owned(), port: free_port()?, etcd, processes: Vec::new() };
        plane.write_files()?;
        if let Some(port) = etcd {
            plane.spawn(&programs.join("etcd"), "etcd", &plane.etcd_flags(port, free_port()?))?;
        }
        plane.part(ironclad, "apiserver", plane.apiserver_flags())?;
        let kubectl = Kubectl::new(programs.join("kubectl"), plane.kubeconfig(), "default");
        until("a ready API server", READY_DEADLINE, || kubectl.run(&["get", "--raw", "/readyz"]))?;
        plane.part(ironclad, "controller-manager", plane.controller_flags())?;
        let names: Vec<String> = (1..=NODES).map(|number| format!("fake-{number}")).collect();
        names.iter().try_for_each(|name| make_node(&kubectl, name))?;
        until("nodes without taints", READY_DEADLINE, || {
            let taints = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[*].spec.taints}"])?;
            anyhow::ensure!(taints.trim().is_empty(), "there are {taints}");
            Ok(taints)
        })?;
        Ok(plane)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A subcommand of the program under test.
    fn part(&mut self, ironclad: &Path, part: &str, mut flags: Vec<String>) -> Result<()> {
        flags.insert(0, part.to_owned());
        self.spawn(ironclad, part, &flags)
    }

    fn spawn(&mut self, program: &Path, name: &str, args: &[String]) -> Result<()> {
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        self.processes.push(child);
        Ok(())
    }

    fn write_files(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let now = daemon::clock::now();
        let authority = Authority::load_or_create(&self.folder, "ca", "conformance", now)?;
        let names = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc"];
        let serving = authority.issue(&Profile::server("kube-apiserver", names), now)?;
        serving.store(&self.file("serving.crt"), &self.file("serving.key"))?;
        let (_, signing_key) = TokenSigner::create()?;
        pki::write_private(&self.file("accounts.key"), &signing_key)?;
        let groups = |admin: bool| if admin { vec!["system:masters"] } else { Vec::new() };
        for (name, user, is_admin) in [("admin", "admin", true), ("manager", "system:kube-controller-manager", false)] {
            let kubeconfig = Kubeconfig {
                cluster: "conformance".to_owned(),
                user: name.to_owned(),
                server: format!("https://127.0.0.1:{}", self.port),
                ca_pem: authority.certificate_pem().to_owned(),
                auth: UserAuth::Certificate(authority.issue(&Profile::client(user, groups(is_admin)), now)?),
            };
            pki::write_private(&self.file(&format!("{name}.kubeconfig")), &kubeconfig.to_yaml())?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.file(name).display())
    }

    fn etcd_flags(&self, port: u16, peers: u16) -> Vec<String> {
        let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        vec![
            self.flag("data-dir", "etcd"),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ]
    }

    fn apiserver_flags(&self) -> Vec<String> {
        let store = match self.etcd {
            None => self.flag("data-dir", "store"),
            Some(port) => format!("--etcd-servers=http://127.0.0.1:{port}"),
        };
        vec![
            store,
            "--bind-address=127.0.0.1".to_owned(),
            // Published in the endpoints of the API, where a loopback address is refused. Nobody goes there.
            "--advertise-address=192.0.2.1".to_owned(),
            format!("--secure-port={}", self.port),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            self.flag("client-ca-file", "ca.crt"),
            self.flag("tls-cert-file", "serving.crt"),
            self.flag("tls-private-key-file", "serving.key"),
            self.flag("service-account-signing-key-file", "accounts.key"),
            self.flag("service-account-key-file", "accounts.key"),
            self.flag("cert-dir", "certificates"),
        ]
    }

    fn controller_flags(&self) -> Vec<String> {
        vec![
            self.flag("kubeconfig", "manager.kubeconfig"),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--node-monitor-grace-period=24h".to_owned(),
            "--node-startup-grace-period=24h".to_owned(),
            self.flag("root-ca-file", "ca.crt"),
            self.flag("service-account-private-key-file", "accounts.key"),
            self.flag("cluster-signing-cert-file", "ca.crt"),
            self.flag("cluster-signing-key-file", "ca.key"),
        ]
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A Node as a kubelet would leave it.
fn make_node(kubectl: &Kubectl, name: &str) -> Result<()> {
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    kubectl.run_with(&["create", "-f", "-"], &node.to_string())?;
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "64Gi"});
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Kubelet"});
    let status: Value = json!({"status": {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": name}],
        "conditions": [
            condition("Ready", "True"), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False"),
        ],
    }});
    let patch = status.to_string();
    kubectl.run(&["patch", "node", name, "--subresource=status", "--type=merge", "--patch", &patch])?;
    Ok(())
}
