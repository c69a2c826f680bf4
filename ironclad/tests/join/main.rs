//! An ordinary node joins an ordinary server: `ironclad server` on one host, `ironclad agent --token` on another.
//!
//! Both hosts are made of namespaces and meet on a wire; nothing of this machine is touched but 127.0.0.1. Needs root.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::{Address, CommandSpec, Host, HostSpec, Launcher, MountSpec, Restart, Uplink, Wire};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

const IRONCLAD: &str = env!("CARGO_BIN_EXE_ironclad");
const OWN: [&str; 9] = [
    "/etc/cni",
    "/etc/containerd",
    "/etc/ironclad",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/ironclad",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// The hosts' directory; on drop they are gone.
struct Lab(tempfile::TempDir);

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["agent", "server", "wire"] {
            let directory = self.0.path().join(name);
            if std::thread::panicking() {
                let log = std::fs::read_to_string(directory.join(format!("log/{name}.log"))).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- {name}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            if let Err(error) = Wire::remove(&directory, 1) {
                eprintln!("{name}: {error}");
            }
        }
    }
}

impl Lab {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "making hosts needs root");
        Self(tempfile::Builder::new().prefix("ironclad-join-").tempdir_in("/var/tmp").unwrap())
    }

    fn cgroup(name: &str) -> PathBuf {
        PathBuf::from(format!("ironclad-join-{}", std::process::id())).join(name)
    }

    /// A host that runs one subcommand, which is named as the host.
    fn spec(&self, name: &str, arguments: &[&str]) -> HostSpec {
        let mut mounts = vec![
            MountSpec::Tmpfs { target: "/run".into(), mode: 0o755 },
            MountSpec::Tmpfs { target: "/tmp".into(), mode: 0o1777 },
        ];
        mounts.extend(OWN.iter().map(|target| MountSpec::Own { target: target.into() }));
        let argv = [IRONCLAD, name].iter().chain(arguments).map(|&word| word.to_owned()).collect();
        let env = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("NO_COLOR", "1")];
        HostSpec {
            name: name.to_owned(),
            directory: self.0.path().join(name),
            cgroup: Self::cgroup(name),
            mounts,
            files: Vec::new(),
            commands: vec![CommandSpec {
                name: name.to_owned(),
                argv,
                env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
                restart: Restart::Never,
                sockets: if name == "server" { vec!["api".to_owned()] } else { Vec::new() },
            }],
            sockets: if name == "server" { vec!["api".to_owned()] } else { Vec::new() },
            settings: Vec::new(),
        }
    }

    /// A file of the server's host.
    fn server_file(&self, path: &str) -> PathBuf {
        self.0.path().join("server/own/var/lib/ironclad/server").join(path)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_with_a_token_and_only_with_the_right_authority() {
    let lab = Lab::new();
    let launcher = Launcher::new(IRONCLAD, ["host-init"]);
    let gateway: Address = "172.31.0.1/24".parse().unwrap();
    let wire = Wire::start(&launcher, &lab.0.path().join("wire"), &Lab::cgroup("wire"), gateway, Uplink::None).unwrap();
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = api.local_addr().unwrap().port();
    let start = |spec: &HostSpec, address: &str, sockets: &[BorrowedFd<'_>]| -> Host {
        wire.start_host(&launcher, spec, sockets, address.parse().unwrap(), gateway.ip).unwrap()
    };
    start(&lab.spec("server", &[]), "172.31.0.2/24", &[api.as_fd()]);
    drop(api);
    let token = eventually(async || std::fs::read_to_string(lab.server_file("token")).ok()).await;
    let ca = pki::read(&lab.server_file("pki/ca.crt")).unwrap();
    let client = eventually(async || client(&lab.server_file("admin.kubeconfig"), port).await).await;
    eventually(async || ready(&client, "server").await).await;

    let stranger = pki::Authority::create("kubernetes-ca", daemon::clock::now()).unwrap();
    let join = |pin: pki::Pin| format!("--token={}@{pin}", token.trim());
    let wrong = lab.spec("agent", &["--server=https://172.31.0.2:6443", &join(stranger.pin())]);
    let agent = start(&wrong, "172.31.0.3/24", &[]);
    let log = agent.log("agent");
    eventually(async || std::fs::read_to_string(&log).ok().filter(|t| t.contains("does not prove the pinned"))).await;
    agent.kill().unwrap();
    assert!(Api::<Node>::all(client.clone()).get_opt("agent").await.unwrap().is_none());

    let pin = pki::Certificate::from_pem(&ca).unwrap().pin;
    let right = lab.spec("agent", &["--server=https://172.31.0.2:6443", &join(pin)]);
    let agent = start(&right, "172.31.0.3/24", &[]);
    eventually(async || ready(&client, "agent").await).await;

    // Without the token, with the certificates that it has by now.
    let before = lease(&client, "agent").await;
    agent.kill().unwrap();
    let again = lab.spec("agent", &["--server=https://172.31.0.2:6443"]);
    start(&again, "172.31.0.3/24", &[]);
    eventually(async || lease(&client, "agent").await.filter(|time| Some(*time) > before)).await;
}

/// The administrator's client, through the handed-in socket.
async fn client(kubeconfig: &Path, port: u16) -> Option<Client> {
    let text = std::fs::read_to_string(kubeconfig).ok()?;
    let mut document: Kubeconfig = serde_yaml_ng::from_str(&text).ok()?;
    let cluster = document.clusters.first_mut()?.cluster.as_mut()?;
    cluster.server = Some(format!("https://127.0.0.1:{port}"));
    let config = kube::Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await.ok()?;
    Client::try_from(config).ok()
}

async fn ready(client: &Client, node: &str) -> Option<()> {
    let node = Api::<Node>::all(client.clone()).get_opt(node).await.ok()??;
    let conditions = node.status?.conditions?;
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(())
}

/// When a node has last renewed its lease.
async fn lease(client: &Client, node: &str) -> Option<jiff::Timestamp> {
    let lease = Api::<Lease>::namespaced(client.clone(), "kube-node-lease").get_opt(node).await.ok()??;
    Some(lease.spec?.renew_time?.0)
}

async fn eventually<T>(mut answer: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = answer().await {
            return found;
        }
        assert!(Instant::now() < deadline, "no answer within {DEADLINE:?}");
        tokio::time::sleep(POLL).await;
    }
}
