//! A server to ask: ours, or upstream's with an etcd. Both get the same flags and the same keys, in a folder of their own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use pki::{Authority, Profile};
use tempfile::TempDir;

use crate::client::Client;

pub(crate) const ADMIN_TOKEN: &str = "recorder-admin";
pub(crate) const USER_TOKEN: &str = "recorder-user";
const READY_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Which server.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// This program, with `apiserver` as its first argument.
    Ours(PathBuf),
    /// `kube-apiserver` and `etcd` in this folder.
    Upstream(PathBuf),
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    folder: TempDir,
    processes: Vec<Process>,
    port: u16,
    ca_pem: String,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(which: &Which) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("differential-").tempdir()?;
        let ca_pem = write_keys(folder.path())?;
        let mut server = Self { folder, processes: Vec::new(), port: free_port()?, ca_pem };
        server.launch(which)?;
        server.wait_ready().await?;
        Ok(server)
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        Client::connect(self.port, &self.ca_pem).await
    }

    fn launch(&mut self, which: &Which) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (program, mut flags) = match which {
            Which::Ours(program) => {
                (program.clone(), vec!["apiserver".to_owned(), format!("--data-dir={}", path("store"))])
            }
            Which::Upstream(folder) => {
                let (client, peer) = (free_port()?, free_port()?);
                let etcd = etcd_flags(&path("etcd"), client, peer);
                let started = run(&folder.join("etcd"), &etcd, &path("etcd.log"))?;
                self.processes.push(started);
                let etcd = format!("--etcd-servers=http://127.0.0.1:{client}");
                let keys = format!("--service-account-key-file={}", path("accounts.crt"));
                (folder.join("kube-apiserver"), vec![etcd, keys])
            }
        };
        let shared = shared_flags(self.folder.path(), self.port);
        flags.extend(shared);
        let path = self.folder.path().join("log").display().to_string();
        self.processes.push(run(&program, &flags, &path)?);
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let Err(error) = self.ready().await else {
                return Ok(());
            };
            let ended = self.processes.iter_mut().any(|process| matches!(process.0.try_wait(), Ok(Some(_))));
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                bail!("the server is not ready: {error:#}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ready(&self) -> Result<()> {
        // Upstream's server is ready before it has made these.
        let made =
            ["/api/v1/namespaces/default/services/kubernetes", "/api/v1/namespaces/default/endpoints/kubernetes"];
        for path in ["/readyz"].iter().chain(&made) {
            let request = Request::get(*path).header("authorization", format!("Bearer {ADMIN_TOKEN}"));
            let answer = self.connect().await?.send(request.body(Bytes::new())?, None).await?;
            ensure!(answer.status == StatusCode::OK, "{path} answered {}", answer.status);
        }
        Ok(())
    }
}

fn run(program: &Path, flags: &[String], log: &str) -> Result<Process> {
    let log = File::create(log)?;
    let child = Command::new(program)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Process(child))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns the certificate of the authority that signed the server's.
fn write_keys(folder: &Path) -> Result<String> {
    let path = |name: &str| folder.join(name);
    let now = daemon::clock::now();
    let authority = Authority::create("differential", now)?;
    let serving = authority.issue(&Profile::server("kube-apiserver", ["127.0.0.1", "10.96.0.1"]), now)?;
    serving.store(&path("serving.crt"), &path("serving.key"))?;
    pki::write_public(&path("ca.crt"), authority.certificate_pem())?;
    // Its certificate is the form in which both programs read a public key.
    let accounts = authority.issue(&Profile::client("service-accounts", ["keys"]), now)?;
    accounts.store(&path("accounts.crt"), &path("accounts.key"))?;
    let tokens = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n{USER_TOKEN},jane,2,\"readers\"\n");
    fs::write(path("tokens.csv"), tokens)?;
    Ok(authority.certificate_pem().to_owned())
}

fn shared_flags(folder: &Path, port: u16) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    vec![
        "--bind-address=127.0.0.1".to_owned(),
        // Endpoints may not name a loopback address. Nobody goes there.
        "--advertise-address=192.0.2.1".to_owned(),
        format!("--secure-port={port}"),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        file("service-account-signing-key-file", "accounts.key"),
        file("client-ca-file", "ca.crt"),
        file("tls-cert-file", "serving.crt"),
        file("tls-private-key-file", "serving.key"),
        file("token-auth-file", "tokens.csv"),
        file("cert-dir", "certificates"),
    ]
}

fn etcd_flags(folder: &str, client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    vec![
        format!("--data-dir={folder}"),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}
