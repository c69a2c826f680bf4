//! `ironclad apiserver` alone, in a directory of its own: with TLS, RBAC, Node authorization and all of admission.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::Method;
use pki::{Authority, Kubeconfig, Profile, UserAuth};
use tempfile::TempDir;

use crate::{
    connection::Target,
    report::{Table, milliseconds, percentile},
};

/// How often each kind of start is measured.
const STARTS: usize = 5;
const READY_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

/// A server that ends with its owner.
pub(crate) struct Server {
    process: Process,
    files: Files,
}

pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keys, certificates and data.
pub(crate) struct Files {
    folder: TempDir,
    port: u16,
}

/// Starts servers, and leaves the last one running.
pub(crate) async fn measure_start(program: &Path) -> Result<Server> {
    let mut table = Table::new("start of `ironclad apiserver` to /readyz over TLS", &["p50", "max", "of", "budget"]);
    let mut cold = Vec::new();
    for _ in 0..STARTS {
        let (server, seconds) = Server::start(program, Files::new()?).await?;
        cold.push(seconds);
        server.stop();
    }
    let (mut server, _) = Server::start(program, Files::new()?).await?;
    let mut again = Vec::new();
    for _ in 0..STARTS {
        let (started, seconds) = Server::start(program, server.stop()).await?;
        again.push(seconds);
        server = started;
    }
    for (what, seconds) in [("with an empty store", &mut cold), ("with the store of a run before", &mut again)] {
        let cells = [percentile(seconds, 0.5), percentile(seconds, 1.0)].map(milliseconds);
        let [median, worst] = cells;
        table.row(what, &[median, worst, STARTS.to_string(), "300 ms".to_owned()]);
    }
    table.print();
    Ok(server)
}

impl Server {
    /// Starts one on an empty store.
    pub(crate) async fn fresh(program: &Path) -> Result<Self> {
        Ok(Self::start(program, Files::new()?).await?.0)
    }

    /// Starts one and waits until it is ready; how many seconds that took.
    async fn start(program: &Path, files: Files) -> Result<(Self, f64)> {
        let log = File::create(files.path("log"))?;
        let started = Instant::now();
        let child = Command::new(program)
            .arg("apiserver")
            .args(files.flags())
            .arg(format!("--data-dir={}", files.path("store").display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self { process: Process(child), files };
        wait(&mut server.process, &server.files, started + READY_DEADLINE).await?;
        Ok((server, started.elapsed().as_secs_f64()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.files.path("kubeconfig")
    }

    /// Kills it and starts it on what it has stored; how many seconds the start took.
    pub(crate) async fn restart(self, program: &Path) -> Result<(Self, f64)> {
        Self::start(program, self.stop()).await
    }

    /// Kills it, as a power cut would; its files stay.
    fn stop(self) -> Files {
        drop(self.process);
        self.files
    }
}

/// Waits until a server is ready.
pub(crate) async fn wait(process: &mut Process, files: &Files, deadline: Instant) -> Result<()> {
    let target = Target::load(&files.path("kubeconfig"))?;
    loop {
        if let Some(status) = process.0.try_wait()? {
            let log = fs::read_to_string(files.path("log")).unwrap_or_default();
            bail!("the API server ended: {status}: {log}");
        }
        match is_ready(&target).await {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > deadline => return Err(why.context("the API server is not ready")),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

async fn is_ready(target: &Target) -> Result<()> {
    target.connect().await?.count(Method::GET, "/readyz", Bytes::new()).await.map(drop)
}

impl Files {
    pub(crate) fn new() -> Result<Self> {
        // Not on a memory file system: the store has to wait for a disk.
        let folder = tempfile::Builder::new().prefix("ironclad-bench-").tempdir_in("/var/tmp")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let files = Self { folder, port };
        let now = daemon::clock::now();
        let authority = Authority::create("bench", now)?;
        let serving = authority.issue(&Profile::server("kube-apiserver", ["127.0.0.1", "10.96.0.1"]), now)?;
        let admin = authority.issue(&Profile::client("admin", ["system:masters"]), now)?;
        let accounts = authority.issue(&Profile::server("service-accounts", ["localhost"]), now)?;
        serving.store(&files.path("serving.crt"), &files.path("serving.key"))?;
        pki::write_public(&files.path("ca.crt"), authority.certificate_pem())?;
        // As public key upstream's server takes a certificate, and no private key of this form.
        accounts.store(&files.path("accounts.crt"), &files.path("accounts.key"))?;
        let kubeconfig = Kubeconfig {
            cluster: "bench".to_owned(),
            user: "admin".to_owned(),
            server: format!("https://127.0.0.1:{port}"),
            ca_pem: authority.certificate_pem().to_owned(),
            auth: UserAuth::Certificate(admin),
        };
        pki::write_private(&files.path("kubeconfig"), &kubeconfig.to_yaml())?;
        Ok(files)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Those that upstream's server has too.
    pub(crate) fn flags(&self) -> Vec<String> {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        vec![
            "--bind-address=127.0.0.1".to_owned(),
            // Published in the endpoints of the API, where a loopback address is refused. Nobody goes there.
            "--advertise-address=192.0.2.1".to_owned(),
            format!("--secure-port={}", self.port),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            file("client-ca-file", "ca.crt"),
            file("tls-cert-file", "serving.crt"),
            file("tls-private-key-file", "serving.key"),
            file("service-account-signing-key-file", "accounts.key"),
            file("service-account-key-file", "accounts.crt"),
            file("cert-dir", "certificates"),
        ]
    }
}
