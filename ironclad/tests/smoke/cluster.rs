//! The cluster under test and the programs that look at it.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use testkit::{image::Image, kubectl::Kubectl, poll::until};

/// The program under test.
const IRONCLAD: &str = env!("CARGO_BIN_EXE_ironclad");
/// Generous: the machine may be busy with other builds. A stuck cluster still ends.
pub(crate) const SOON: Duration = Duration::from_secs(90);
pub(crate) const NODE_PORT: u16 = 30_080;

pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    /// Of its own, so that two runs on one machine do not meet.
    name: String,
    /// Where the node port is published on 127.0.0.1.
    published: u16,
    kubectls: Vec<Kubectl>,
    before: BTreeSet<String>,
}

impl Cluster {
    /// Starts two nodes and loads the test images.
    pub(crate) fn up() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironclad-smoke-").tempdir_in("/var/tmp")?;
        let kubeconfig = folder.path().join("kubeconfig");
        let kubectls = kubectl_programs()?.into_iter().map(|p| Kubectl::new(p, &kubeconfig, "default")).collect();
        let name = format!("smoke{}", std::process::id());
        let published = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let cluster = Self { folder, name, published, kubectls, before: traces()? };
        cluster.start()?;
        for version in ["1", "2"] {
            let path = cluster.folder.path().join(format!("web-{version}.tar"));
            web_image(version)?.save(&path)?;
            cluster.ironclad(&["image", "load", "--name", &cluster.name, &path.to_string_lossy()])?;
        }
        Ok(cluster)
    }

    /// `ironclad up`, for the first time or again.
    pub(crate) fn start(&self) -> Result<()> {
        let publish = format!("{}:{NODE_PORT}", self.published);
        let kubeconfig = self.kubectl().kubeconfig().to_string_lossy().into_owned();
        let options = ["up", "--name", &self.name, "--nodes", "2", "--uplink", "none", "--publish", &publish];
        print!("{}", self.ironclad(&[&options[..], &["--kubeconfig", &kubeconfig]].concat())?);
        Ok(())
    }

    /// Ends the cluster and looks for what it left. Other clusters may come and go beside it.
    pub(crate) fn down(self) -> Result<()> {
        self.ironclad(&["down", "--name", &self.name])?;
        let others = |trace: &&String| trace.contains("ironclad-") && !trace.contains(&self.name);
        let left: Vec<String> = traces()?.difference(&self.before).filter(|t| !others(t)).cloned().collect();
        ensure!(left.is_empty(), "left behind: {left:#?}");
        self.ironclad(&["down", "--name", &self.name]).context("a second down")?;
        Ok(())
    }

    /// Runs the program under test and returns what it printed.
    pub(crate) fn ironclad(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(IRONCLAD);
        let output = command.args(args).arg("--clusters-dir").arg(self.folder.path().join("clusters")).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ironclad {} failed: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The newest kubectl, in the namespace `default`.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectls[0]
    }

    /// Every kubectl at hand.
    pub(crate) fn kubectls(&self) -> &[Kubectl] {
        &self.kubectls
    }

    /// The newest kubectl in a namespace that is made for a scenario.
    pub(crate) fn namespace(&self, name: &str) -> Result<Kubectl> {
        self.kubectl().apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"))?;
        let kubectl = self.kubectl().within(name);
        until("a default service account", SOON, || kubectl.run(&["get", "serviceaccount", "default"]))?;
        Ok(kubectl)
    }

    /// GET of a path on the published node port.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        http_get(&self.address(), path)
    }

    /// The published node port's address.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.published)
    }

    /// A folder for a scenario's files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processes of a node's host with this in their command line, as this machine sees them.
    pub(crate) fn processes(&self, node: &str, pattern: &str) -> Result<Vec<i32>> {
        descendants(self.init(node)?, pattern)
    }

    /// A node's PID 1, as this machine sees it.
    pub(crate) fn init(&self, node: &str) -> Result<i32> {
        let status = self.ironclad(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status).context("status prints JSON")?;
        let nodes = status[0]["nodes"].as_array().context("status lists nodes")?;
        let found = nodes.iter().find(|n| n["name"] == node).with_context(|| format!("{node} is not in {status}"))?;
        Ok(i32::try_from(found["pid"].as_i64().context("a node has a PID 1")?)?)
    }

    /// The names of the nodes: the control plane's first.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        let names = self.kubectl().run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let mut names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        let selector = "node-role.kubernetes.io/control-plane";
        let control =
            self.kubectl().run(&["get", "nodes", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"])?;
        names.sort_by_key(|name| *name != control);
        Ok(names)
    }

    /// Prints what helps to understand a failure.
    pub(crate) fn explain(&self) {
        for args in [
            &["get", "nodes,pods", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
        ] {
            match self.kubectl().output(args, "") {
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stdout);
                    let lines: Vec<&str> = text.lines().collect();
                    println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
                }
                Err(failure) => println!("kubectl {}: {failure:#}", args.join(" ")),
            }
        }
    }
}

/// GET over plain HTTP; the body when the status is 200.
pub(crate) fn http_get(address: &str, path: &str) -> Result<String> {
    let target = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    ensure!(head.contains(" 200 "), "{}", head.lines().next().unwrap_or(""));
    Ok(body.trim().to_owned())
}

/// A web server that says its version and name.
fn web_image(version: &str) -> Result<Image> {
    let mut image = Image::busybox(&format!("ironclad.test/web:{version}"))?;
    // A shell that is PID 1 ends at once when it is told to, as a server should.
    let script = format!(
        "#!/bin/sh\ntrap 'exit 0' TERM\necho \"v{version} $(hostname)\" > /www/index.html\n\
         echo started v{version}\nhttpd -f -p 8080 -h /www &\nwait\n"
    );
    image.file("bin/serve", script.as_bytes(), 0o755)?;
    image.entrypoint(&["/bin/serve"]);
    // The static busybox cannot resolve names without its own C library beside it.
    image.program("/usr/bin/curl")?;
    Ok(image)
}

/// The newest kubectl, built by Go, and the one on the path.
fn kubectl_programs() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = root.join("conformance/bin/kubectl");
    if !built.exists() {
        let mut build = Command::new(root.join("conformance/build"));
        let status = build.arg("kubectl").status().context("cannot run conformance/build")?;
        ensure!(status.success(), "conformance/build kubectl failed: {status}");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let stock = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|p| p.is_file());
    Ok(std::iter::once(built).chain(stock).collect())
}

/// What a cluster could leave on this machine: mounts, links, namespaces, rules, control groups, processes.
fn traces() -> Result<BTreeSet<String>> {
    let mut traces = BTreeSet::new();
    let mut add = |kind: &str, text: &str| traces.extend(text.lines().map(|line| format!("{kind}: {line}")));
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    add("mount", &mounts.lines().filter_map(|l| l.split(' ').nth(4)).collect::<Vec<_>>().join("\n"));
    add("link", &printed("ip", &["-o", "-br", "link"])?);
    add("route", &printed("ip", &["route"])?);
    add("namespace", &printed("ip", &["netns", "list"])?);
    add("rule", &without_counters(&printed("iptables-save", &[])?));
    add("cgroup", &printed("find", &["/sys/fs/cgroup", "-type", "d", "-name", "*ironclad*"])?);
    add("process", &printed("pgrep", &["-a", "-f", IRONCLAD])?);
    Ok(traces)
}

fn without_counters(rules: &str) -> String {
    rules.lines().filter(|l| !l.starts_with(['#', ':'])).collect::<Vec<_>>().join("\n")
}

fn printed(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Every process below `ancestor` with `pattern` in its command line.
fn descendants(ancestor: i32, pattern: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        if command.contains(pattern) && has_ancestor(pid, ancestor) {
            found.push(pid);
        }
    }
    if found.is_empty() {
        bail!("no process below {ancestor} has {pattern:?} in its command line");
    }
    Ok(found)
}

fn has_ancestor(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may contain spaces; the parent follows the state behind it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    false
}

/// Ends a process at once.
pub(crate) fn kill(pid: i32) -> Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}
