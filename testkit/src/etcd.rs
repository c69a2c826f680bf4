//! etcd clusters on 127.0.0.1: members that can be killed, stopped and started again. And our own server of etcd's
//! protocol, which is a cluster of one.

mod wires;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::wires::Wires;
use crate::{poll, upstream};

/// How long a cluster may take to answer.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a member may take to answer one question; one that is stopped never does.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// Which etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one that Debian has.
    V3_4,
    /// The one of the Go module.
    V3_7,
    /// `ironclad etcd`, as built last.
    Ironclad,
}

impl Release {
    fn program(self) -> Result<PathBuf> {
        let (program, version) = match self {
            Self::V3_4 => (PathBuf::from("/usr/bin/etcd"), "etcd Version: 3.4."),
            Self::V3_7 => (upstream::program("etcd")?, "etcd Version: 3.7."),
            Self::Ironclad => return own_program(),
        };
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}; try cargo xtask setup", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.starts_with(version), "{} is not {version}: {text}", program.display());
        Ok(program)
    }
}

/// The binary of the build that the running test is of.
///
/// # Errors
/// When it was not built.
pub fn own_program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test lies in a folder of the build's")?;
    let program = folder.join("ironclad");
    ensure!(program.exists(), "{} is not there; try cargo build --package ironclad", program.display());
    Ok(program)
}

/// Certificates for a cluster that speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Who issued members' and clients' certificates.
    pub authority: PathBuf,
    /// The members' certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A client's certificate.
    pub client_certificate: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Tls {
    /// An authority, and certificates for members on 127.0.0.1 and for a client.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        let now = daemon::clock::now();
        let authority = pki::Authority::create("etcd", now)?;
        let path = |name: &str| directory.join(name);
        let tls = Self {
            authority: path("ca.crt"),
            certificate: path("member.crt"),
            key: path("member.key"),
            client_certificate: path("client.crt"),
            client_key: path("client.key"),
        };
        std::fs::write(&tls.authority, authority.certificate_pem())?;
        let member = authority.issue(&pki::Profile::server("etcd", ["127.0.0.1"]), now)?;
        member.store(&tls.certificate, &tls.key)?;
        let client = authority.issue(&pki::Profile::client("apiserver", [""; 0]), now)?;
        client.store(&tls.client_certificate, &tls.client_key)?;
        Ok(tls)
    }
}

/// A cluster. Its processes end when it is dropped, and its files go.
#[derive(Debug)]
pub struct Cluster {
    release: Release,
    program: PathBuf,
    dir: tempfile::TempDir,
    members: Vec<Member>,
    initial: String,
    tls: Option<Tls>,
    /// Between its members, if they can be cut.
    wires: Option<Wires>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    /// Answers without TLS.
    metrics: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts members and waits until they answer.
    ///
    /// # Errors
    /// When they do not.
    pub fn start(release: Release, members: usize) -> Result<Self> {
        Self::start_with(release, members, None)
    }

    /// The same with TLS for clients, who need a certificate.
    ///
    /// # Errors
    /// When they do not answer.
    pub fn start_with(release: Release, members: usize, tls: Option<Tls>) -> Result<Self> {
        Self::prepare(release, members, tls)?.started()
    }

    /// The same with wires between members that can be cut and slowed.
    ///
    /// # Errors
    /// When they do not answer.
    pub fn start_wired(release: Release, members: usize) -> Result<Self> {
        let mut cluster = Self::prepare(release, members, None)?;
        let peers: Vec<_> = cluster.members.iter().map(|member| member.peer).collect();
        let wires = Wires::lay(&peers)?;
        cluster.initial = initial(|n| wires.port(n), members);
        cluster.wires = Some(wires);
        cluster.started()
    }

    fn prepare(release: Release, members: usize, tls: Option<Tls>) -> Result<Self> {
        // All are held until all are known, so that no port is picked twice.
        let held: Result<Vec<_>, _> = (0..members * 3).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
        let ports: Result<Vec<_>, _> = held?.iter().map(|l| l.local_addr().map(|address| address.port())).collect();
        let ports = ports?;
        let member = |own: &[u16]| Member { client: own[0], peer: own[1], metrics: own[2], process: None };
        let members: Vec<_> = ports.chunks(3).map(member).collect();
        let initial = initial(|n| members[n].peer, members.len());
        let dir = tempfile::Builder::new().prefix("etcd").tempdir()?;
        Ok(Self { release, program: release.program()?, dir, members, initial, tls, wires: None })
    }

    fn started(mut self) -> Result<Self> {
        for n in 0..self.members.len() {
            self.spawn(n)?;
        }
        (0..self.members.len()).try_for_each(|n| self.wait(n))?;
        Ok(self)
    }

    /// Lets nothing pass between a member and its peers any more; clients still reach it.
    pub fn cut(&self, n: usize) {
        self.wires().cut(n);
    }

    /// Lets everything between a member and its peers arrive this much later.
    pub fn slow(&self, n: usize, delay: Duration) {
        self.wires().slow(n, delay);
    }

    /// Makes a member's wires whole again.
    pub fn mend(&self, n: usize) {
        self.wires().mend(n);
    }

    fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("the cluster was started with wires")
    }

    /// The clients' addresses.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|n| self.endpoint(n)).collect()
    }

    /// One member's address for clients.
    pub fn endpoint(&self, n: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[n].client)
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("m{n}"))
    }

    /// Ends a member with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, n: usize) -> Result<()> {
        let mut process = self.members[n].process.take().context("the member does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Starts a killed member again.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn restart(&mut self, n: usize) -> Result<()> {
        self.spawn(n)?;
        self.wait(n)
    }

    /// Stops a member where it is, with its connections open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, n: usize) -> Result<()> {
        self.signal(n, "STOP")
    }

    /// Lets a stopped member go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self, n: usize) -> Result<()> {
        self.signal(n, "CONT")
    }

    /// The member that leads.
    ///
    /// # Errors
    /// When none does.
    pub fn leader(&self) -> Result<usize> {
        for n in 0..self.members.len() {
            let metrics = self.get(n, "/metrics").unwrap_or_default();
            if metrics.lines().any(|line| line == "etcd_server_is_leader 1") {
                return Ok(n);
            }
        }
        bail!("no member leads")
    }

    /// Starts a killed member again, and does not wait for it: it may need others to answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn respawn(&mut self, n: usize) -> Result<()> {
        self.spawn(n)
    }

    /// Waits until a member is healthy.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait(&self, n: usize) -> Result<()> {
        let healthy = || {
            let health = self.get(n, "/health")?;
            ensure!(health.contains(r#""health":"true""#), "{health}");
            Ok(())
        };
        poll::until(&format!("etcd member {n}"), READY_TIMEOUT, healthy).with_context(|| {
            let log = std::fs::read_to_string(self.dir.path().join(format!("m{n}.log"))).unwrap_or_default();
            log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
        })
    }

    fn get(&self, n: usize, path: &str) -> Result<String> {
        let address = ("127.0.0.1", self.members[n].metrics);
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn signal(&self, n: usize, signal: &str) -> Result<()> {
        let process = self.members[n].process.as_ref().context("the member does not run")?;
        let status = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status()?;
        ensure!(status.success(), "kill -{signal}: {status}");
        Ok(())
    }

    fn spawn(&mut self, n: usize) -> Result<()> {
        let (client, peer) = (self.endpoint(n), format!("http://127.0.0.1:{}", self.members[n].peer));
        let name = format!("m{n}");
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{name}.log")))?;
        let mut command = Command::new(&self.program);
        if self.release == Release::Ironclad {
            command.arg("etcd");
        } else {
            command.args(["--initial-cluster", &self.initial]);
            let port = self.wires.as_ref().map_or(self.members[n].peer, |wires| wires.port(n));
            let advertised = format!("http://127.0.0.1:{port}");
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &advertised]);
        }
        command
            .arg("--data-dir")
            .arg(self.data_dir(n))
            .args(["--name", &name])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", self.members[n].metrics)])
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(tls) = &self.tls {
            command.arg("--trusted-ca-file").arg(&tls.authority).arg("--client-cert-auth");
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        let process = command.spawn().context("cannot start etcd")?;
        if let Some(wires) = &self.wires {
            wires.is(n, process.id());
        }
        self.members[n].process = Some(process);
        Ok(())
    }
}

/// The flag that names all members and where their peers find them.
fn initial(port: impl Fn(usize) -> u16, members: usize) -> String {
    (0..members).map(|n| format!("m{n}=http://127.0.0.1:{}", port(n))).collect::<Vec<_>>().join(",")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
