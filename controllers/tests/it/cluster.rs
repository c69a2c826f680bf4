//! A control plane for one test: an API server on a port of its own, and the controllers in this process.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use daemon::{Drain, Tasks, Trigger};
use kube::{Api, Client, Config, config::AuthInfo};
use tempfile::TempDir;

const TOKEN: &str = "test";
const MANAGER: &str = "manager";
const START: Duration = Duration::from_secs(20);
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    processes: Vec<Child>,
    tasks: Tasks,
    trigger: Trigger,
    _directory: TempDir,
}

impl Cluster {
    /// Starts one with the controllers of a `--controllers` list, panicking where there is no server to start.
    pub(crate) async fn start(names: &str) -> Option<Self> {
        Self::start_with(controllers::Config {
            controllers: names.split(',').map(str::to_owned).collect(),
            root_ca: Some("PEM".to_owned()),
            ..controllers::Config::default()
        })
        .await
    }

    pub(crate) async fn start_with(config: controllers::Config) -> Option<Self> {
        let program =
            program().expect("an API server: build one with `cargo build -p ironclad`, or set TEST_APISERVER");
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut processes = Vec::new();
        let storage = match std::env::var("TEST_ETCD") {
            Ok(etcd) => {
                let (etcd_port, peer_port) = (free_port(), free_port());
                processes.push(start_etcd(&etcd, &directory, etcd_port, peer_port));
                format!("--etcd-servers=http://127.0.0.1:{etcd_port}")
            }
            Err(_) => format!("--data-dir={}", directory.path().join("data").display()),
        };
        processes.push(start_apiserver(&program, &directory, storage, port));
        let client = connect(port);
        let (trigger, drain) = Drain::new();
        let tasks = Tasks::new(drain.clone());
        let cluster = Self { client: client.clone(), processes, tasks, trigger, _directory: directory };
        cluster.ready().await;
        // Upstream's identities, so that its roles decide what the controllers may do.
        let accounts = controllers::ServiceAccounts::new(config_of(port, MANAGER)).unwrap();
        let clients: Arc<dyn controllers::Clients> = Arc::new(accounts);
        cluster.tasks.spawn("controllers", async move {
            controllers::run(config, clients, drain).await.unwrap();
        });
        Some(cluster)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    async fn ready(&self) {
        let ready = async {
            loop {
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if self.client.request_text(request).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(START, ready).await.expect("the API server gets ready");
    }

    /// Ends the controllers; the server stays.
    pub(crate) async fn drain(&self) {
        self.trigger.start();
        self.tasks.join(Duration::from_secs(10)).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.trigger.start();
        self.tasks.join(Duration::from_secs(10)).await.unwrap();
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Polls until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    within(SOON, what, &mut holds).await;
}

pub(crate) async fn within<F: Future<Output = bool>>(limit: Duration, what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + limit;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start_etcd(program: &str, directory: &TempDir, port: u16, peer_port: u16) -> Child {
    let client_url = format!("http://127.0.0.1:{port}");
    let peer_url = format!("http://127.0.0.1:{peer_port}");
    spawn(
        program,
        &log(directory, "etcd"),
        &[
            format!("--data-dir={}", directory.path().join("etcd").display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=error".to_owned(),
        ],
    )
}

/// The program that serves the API, and the arguments before its flags: as `TEST_APISERVER` says (with `TEST_ETCD` if it
/// needs one), else this build's own binary.
fn program() -> Option<Vec<String>> {
    if let Ok(said) = std::env::var("TEST_APISERVER") {
        return Some(said.split_whitespace().map(str::to_owned).collect());
    }
    let tests = std::env::current_exe().ok()?;
    let binary = tests.parent()?.parent()?.join("ironclad");
    binary.exists().then(|| vec![binary.display().to_string(), "apiserver".to_owned()])
}

fn start_apiserver(program: &[String], directory: &TempDir, storage: String, port: u16) -> Child {
    let tokens = directory.path().join("tokens");
    std::fs::write(
        &tokens,
        format!("{TOKEN},admin,admin,system:masters\n{MANAGER},system:kube-controller-manager,manager\n"),
    )
    .unwrap();
    let key = directory.path().join("key.pem");
    let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").stderr(Stdio::null()).status();
    assert!(made.unwrap().success());
    let key = key.display();
    let flags = [
        storage,
        "--bind-address=127.0.0.1".to_owned(),
        // Nobody connects to it; the service of the API must not have a loopback address.
        "--advertise-address=192.0.2.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", directory.path().join("certs").display()),
        format!("--token-auth-file={}", tokens.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--service-account-key-file={key}"),
        format!("--service-account-signing-key-file={key}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    let arguments: Vec<String> = program[1..].iter().cloned().chain(flags).collect();
    spawn(&program[0], &log(directory, "apiserver"), &arguments)
}

fn log(directory: &TempDir, name: &str) -> PathBuf {
    match std::env::var("TEST_LOGS") {
        Ok(logs) => {
            PathBuf::from(logs).join(format!("{name}-{}", directory.path().display().to_string().replace('/', "_")))
        }
        Err(_) => directory.path().join(name.to_owned() + ".log"),
    }
}

fn spawn(program: &str, log: &PathBuf, arguments: &[String]) -> Child {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn connect(port: u16) -> Client {
    Client::try_from(config_of(port, TOKEN)).unwrap()
}

fn config_of(port: u16, token: &str) -> Config {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    // The server makes its own certificate in a directory of this test.
    config.accept_invalid_certs = true;
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    config
}
