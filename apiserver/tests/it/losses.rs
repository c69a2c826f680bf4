//! Three API servers in front of three members of one etcd. Each server and each member is killed once, in turn, while
//! clients write and watch through whoever is left: nothing acknowledged is lost, and no watcher misses anything or sees
//! it twice.

mod client;
mod told;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;
use testkit::etcd::{Cluster, Release};
use tokio::task::{JoinSet, block_in_place};
use tokio_rustls::TlsConnector;

use self::client::{Client, Fleet};
use self::told::{Progress, Seen, Story};

const SERVERS: usize = 3;
const WRITERS: usize = 4;
const TOKEN: &str = "test-admin";
const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// What each writer gets done before the next thing happens.
const ROUNDS: u64 = 3;
/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// One server's process, which can be killed and started again. It ends when dropped.
struct Server {
    flags: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    fn new(n: usize, address: SocketAddr, etcd: &Cluster, directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let flags = vec![
            "apiserver".to_owned(),
            format!("--bind-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--advertise-address=192.0.2.{}", n + 1),
            format!("--tls-cert-file={}", path("tls.crt")),
            format!("--tls-private-key-file={}", path("tls.key")),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--etcd-servers={}", etcd.endpoints().join(",")),
        ];
        Self { flags, log: directory.join(format!("server-{n}.log")), process: None }
    }

    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(testkit::etcd::own_program().unwrap());
        let process = command.args(&self.flags).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.process = Some(process.unwrap());
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(10).collect();
            eprintln!("--- {}\n{}", self.log.display(), last.join("\n"));
        }
    }
}

/// The servers, started, and how clients find them.
fn start(etcd: &Cluster, directory: &Path) -> (Vec<Server>, Arc<Fleet>) {
    let now = daemon::clock::now();
    let authority = pki::Authority::create("test-authority", now).unwrap();
    let serving = authority.issue(&pki::Profile::server("kube-apiserver", ["127.0.0.1"]), now).unwrap();
    serving.store(&directory.join("tls.crt"), &directory.join("tls.key")).unwrap();
    std::fs::write(directory.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
    // All are held until all are known, so that no port is picked twice.
    let held = [(); SERVERS].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = held.map(|listener| listener.local_addr().unwrap());
    let mut servers: Vec<_> =
        addresses.iter().enumerate().map(|(n, address)| Server::new(n, *address, etcd, directory)).collect();
    servers.iter_mut().for_each(Server::start);
    let mut tls = pki::tls::client(authority.certificate_pem(), None).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    (servers, Arc::new(Fleet { addresses: addresses.to_vec(), connector: TlsConnector::from(Arc::new(tls)) }))
}

/// Waits until this server is ready, asking nobody else.
async fn ready(fleet: &Fleet, server: usize) {
    let alone = Fleet { addresses: vec![fleet.addresses[server]], connector: fleet.connector.clone() };
    let mut client = Client::new(Arc::new(alone), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.send("GET", "/readyz", &Value::Null).await;
        if answer.as_ref().is_ok_and(|(code, _)| *code == StatusCode::OK) {
            return;
        }
        assert!(Instant::now() < deadline, "server {server} is not ready: {answer:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Everybody who writes or watches.
struct Crowd {
    stop: Arc<AtomicBool>,
    writers: JoinSet<Vec<Story>>,
    watchers: JoinSet<Seen>,
    written: Vec<Arc<AtomicU64>>,
    /// The newest revision that was acknowledged.
    newest: Arc<AtomicU64>,
    watched: Vec<Arc<AtomicU64>>,
}

impl Crowd {
    fn start(fleet: &Arc<Fleet>, from: u64) -> Self {
        let counters = |count: usize| (0..count).map(|_| Arc::new(AtomicU64::new(0))).collect::<Vec<_>>();
        let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (written, watched) = (counters(WRITERS), counters(SERVERS));
        let (mut writers, mut watchers) = (JoinSet::new(), JoinSet::new());
        for (n, done) in written.iter().enumerate() {
            let progress = Progress { stop: stop.clone(), done: done.clone(), newest: newest.clone() };
            writers.spawn(told::write(Client::new(fleet.clone(), n), n, progress));
        }
        for (n, reached) in watched.iter().enumerate() {
            watchers.spawn(told::watch(Client::new(fleet.clone(), n), from, reached.clone()));
        }
        Self { stop, writers, watchers, written, newest, watched }
    }

    /// Waits until every writer has got something done, and every watcher has seen it.
    async fn goes_on(&self, after: &str) {
        let load = |counter: &Arc<AtomicU64>| counter.load(Ordering::Relaxed);
        let wanted: Vec<_> = self.written.iter().map(|done| load(done) + ROUNDS).collect();
        let (mut newest, started) = (None, Instant::now());
        loop {
            if newest.is_none() && self.written.iter().zip(&wanted).all(|(done, wanted)| load(done) >= *wanted) {
                newest = Some(load(&self.newest));
            }
            if newest.is_some_and(|newest| self.watched.iter().all(|reached| load(reached) >= newest)) {
                return println!("writes and watches go on {:?} after {after}", started.elapsed());
            }
            let (written, watched) = (self.written.iter().map(load), self.watched.iter().map(load));
            assert!(
                started.elapsed() < PATIENCE,
                "after {after} something stands: written {:?} of {wanted:?}, watched {:?} of {newest:?}",
                written.collect::<Vec<_>>(),
                watched.collect::<Vec<_>>()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stops everybody, and returns what they were told.
    async fn end(self, client: &mut Client) -> (Vec<Story>, Vec<Seen>) {
        self.stop.store(true, Ordering::Relaxed);
        let told = self.writers.join_all().await.concat();
        told::create(client, told::LAST).await;
        let seen =
            tokio::time::timeout(PATIENCE, self.watchers.join_all()).await.expect("watchers see the last object");
        (told, seen)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_and_any_member_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut etcd = block_in_place(|| Cluster::start(Release::V3_7, 3)).unwrap();
    let (mut servers, fleet) = start(&etcd, directory.path());
    for n in 0..SERVERS {
        ready(&fleet, n).await;
    }
    let mut client = Client::new(fleet.clone(), 0);
    let from = told::revision(&client.answer("GET", PATH, &Value::Null).await.body);
    let crowd = Crowd::start(&fleet, from);
    crowd.goes_on("the start").await;
    for (n, server) in servers.iter_mut().enumerate() {
        server.kill();
        crowd.goes_on(&format!("server {n} was killed")).await;
        server.start();
        ready(&fleet, n).await;
        crowd.goes_on(&format!("server {n} came back")).await;
        let role = if block_in_place(|| etcd.leader()).unwrap() == n { "the leader" } else { "a follower" };
        block_in_place(|| etcd.kill(n)).unwrap();
        crowd.goes_on(&format!("member {n}, {role}, was killed")).await;
        block_in_place(|| etcd.restart(n)).unwrap();
        crowd.goes_on(&format!("member {n} came back")).await;
    }
    let (stories, seen) = crowd.end(&mut client).await;
    println!("{} objects, {} of them with a lost answer", stories.len(), told::lost(&stories));
    for (n, address) in fleet.addresses.iter().enumerate() {
        let alone = Fleet { addresses: vec![*address], connector: fleet.connector.clone() };
        let list = Client::new(Arc::new(alone), 0).answer("GET", PATH, &Value::Null).await.body;
        told::check_list(&stories, &list, n);
    }
    for (n, watcher) in seen.iter().enumerate() {
        println!("watcher {n}: {} events, {} servers left", watcher.events.len(), watcher.left);
        told::check_watch(&stories, watcher);
        assert!(watcher.left > 0, "the server of watcher {n} was killed");
        assert!(watcher.events == seen[0].events, "watchers {n} and 0 saw different things");
    }
}
