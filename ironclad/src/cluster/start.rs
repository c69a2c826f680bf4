//! `up`: from nothing, or from what an earlier `up` left, to a cluster that is ready.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use host::{Host, Launcher, Uplink, Wire};
use jiff::Timestamp;
use pki::{Authority, BootstrapToken, Kubeconfig};

use super::phases::Phases;
use super::ready::Started;
use super::record::NodeRecord;
use super::{Cluster, Directory, Publish, Record, kubeconfig, nodes, preflight, ready};
use crate::environment;
use crate::node::credentials;
use crate::paths::pair;
use crate::server::identities;

/// Upstream's port of the API server, preferred on the machine's loopback too.
const API_PORT: u16 = 6443;

/// What the user asks for. Absent: as it was, or the default.
pub(crate) struct Wanted {
    pub(crate) nodes: Option<usize>,
    pub(crate) publish: Vec<Publish>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) uplink: Option<Uplink>,
    pub(crate) api_port: Option<u16>,
}

/// Makes the cluster, or makes it run again, and waits until it is ready.
pub(crate) async fn up(directory: &Directory, wanted: Wanted) -> Result<()> {
    directory.check_name()?;
    preflight::check()?;
    let mut phases = Phases::start();
    let cluster = describe(directory, wanted)?;
    let admin = credentials_of(&cluster)?;
    phases.done("keys and certificates");
    let started = start_hosts(&cluster, &mut phases)?;
    kubeconfig::merge(&cluster.record.kubeconfig, &admin)?;
    ready::wait(&cluster, started, &mut phases).await?;
    phases.total(&format!("cluster {} is ready", cluster.name()));
    say_what_next(&cluster);
    Ok(())
}

/// Joins what is wanted with what there is, and writes it down before anything is made.
fn describe(directory: &Directory, wanted: Wanted) -> Result<Cluster> {
    let is_new = !directory.exists();
    let mut record = if is_new { fresh(&wanted)? } else { Record::load(directory)? };
    let cluster = Cluster { directory: directory.clone(), record: record.clone() };
    let is_running = !is_new && cluster.node(&record.first().name)?.is_some();
    if let Some(count) = wanted.nodes {
        if count < record.nodes.len() {
            bail!("cluster {} has {} nodes already; nodes are not taken away", directory.name(), record.nodes.len());
        }
        record.grow(count)?;
    }
    let changes_sockets = (!wanted.publish.is_empty() && wanted.publish != record.publish)
        || wanted.api_port.is_some_and(|port| port != record.api_port);
    if changes_sockets && is_running {
        bail!("cluster {} is running: its ports can be changed only after a restart", directory.name());
    }
    if !wanted.publish.is_empty() {
        record.publish = wanted.publish;
    }
    if let Some(port) = wanted.api_port {
        record.api_port = port;
    }
    if let Some(path) = wanted.kubeconfig {
        record.kubeconfig = path;
    }
    if let Some(uplink) = wanted.uplink {
        record.uplink = uplink == Uplink::Auto;
    }
    record.store(directory)?;
    Ok(Cluster { directory: directory.clone(), record })
}

fn fresh(wanted: &Wanted) -> Result<Record> {
    let mut record = Record {
        nodes: Vec::new(),
        api_port: wanted.api_port.map_or_else(free_port, Ok)?,
        publish: Vec::new(),
        uplink: false,
        kubeconfig: wanted.kubeconfig.clone().map_or_else(environment::kubeconfig, Ok)?,
    };
    record.kubeconfig = std::path::absolute(&record.kubeconfig).context("cannot find the kubeconfig's directory")?;
    record.grow(wanted.nodes.unwrap_or(1))?;
    Ok(record)
}

/// Upstream's port when it is free, any other otherwise.
fn free_port() -> Result<u16> {
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, API_PORT)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let address = bound.and_then(|listener| listener.local_addr()).context("cannot find a free port on 127.0.0.1")?;
    Ok(address.port())
}

/// The authority, the join token and every node's certificates, in the hosts' own directories; the first user's
/// kubeconfig.
fn credentials_of(cluster: &Cluster) -> Result<Kubeconfig> {
    let first = cluster.record.first();
    let server = cluster.directory.server_paths(&first.name);
    let authority = identities::authority(&server.pki())?;
    if !server.join_token().exists() {
        pki::write_private(&server.join_token(), &BootstrapToken::generate().to_string())?;
    }
    for node in &cluster.record.nodes {
        credentials::issue(&authority, &cluster.directory.node_paths(&node.name), &node.name, node.address.ip.into())?;
    }
    let kubeconfig = admin_kubeconfig(cluster, &authority)?;
    pki::write_private(&cluster.directory.kubeconfig(), &kubeconfig.to_yaml())?;
    Ok(kubeconfig)
}

fn admin_kubeconfig(cluster: &Cluster, authority: &Authority) -> Result<Kubeconfig> {
    let (certificate, key) = pair(&cluster.directory.path(), "admin");
    let profile = identities::admin_profile();
    let admin = authority.load_or_issue(&certificate, &key, &profile, daemon::clock::now())?;
    let url = format!("https://{}", cluster.api());
    Ok(identities::admin_kubeconfig(&cluster.directory.context(), &url, authority, &admin))
}

/// Starts the hosts that do not run. What was started goes again when the rest cannot be.
fn start_hosts(cluster: &Cluster, phases: &mut Phases) -> Result<Started> {
    // The API's dates are in whole seconds.
    let at = Timestamp::from_second(daemon::clock::now().as_second()).context("the clock shows no date")?;
    let launcher = Launcher::new(environment::executable()?, ["host-init"]);
    let found = cluster.wire()?;
    if found.is_none() {
        // Hosts that hang on a wire that is gone are cut off for good: they start again with the new one.
        cluster.running_nodes()?.iter().try_for_each(Host::kill)?;
    }
    // Before anything is made: a port that is taken is the likeliest failure.
    let listeners = match cluster.node(&cluster.record.first().name)? {
        Some(_) => Vec::new(),
        None => listeners(&cluster.record)?,
    };
    let mut made = Vec::new();
    let outcome = start_missing(cluster, found, &launcher, &listeners, (phases, &mut made));
    if outcome.is_err() {
        for host in made.iter().rev() {
            if let Err(error) = host.kill() {
                phases.note(&format!("cannot end what was started: {error}"));
            }
        }
    }
    let nodes = outcome?;
    phases.done(&format!("{} on a wire", plural(cluster.record.nodes.len(), "host")));
    Ok(Started { at, nodes })
}

/// The names of the nodes that were started; everything that was started goes to `made`.
fn start_missing(
    cluster: &Cluster,
    found: Option<Wire>,
    launcher: &Launcher,
    listeners: &[TcpListener],
    (phases, made): (&Phases, &mut Vec<Host>),
) -> Result<Vec<String>> {
    let is_new = found.is_none();
    let wire = found.map_or_else(|| start_wire(cluster, launcher, phases), Ok)?;
    if is_new {
        made.extend(cluster.wire()?.map(Wire::into_host));
    }
    let mut started = Vec::new();
    for node in &cluster.record.nodes {
        if cluster.node(&node.name)?.is_none() {
            made.push(start_node(cluster, &wire, launcher, listeners, node)?);
            started.push(node.name.clone());
        }
    }
    Ok(started)
}

fn start_wire(cluster: &Cluster, launcher: &Launcher, phases: &Phases) -> Result<Wire> {
    let directory = cluster.directory.wire();
    let cgroup = cluster.directory.cgroup().join("wire");
    let uplink = if cluster.has_uplink() { Uplink::Auto } else { Uplink::None };
    if cluster.record.uplink && uplink == Uplink::None {
        phases.note("no way out: neither passt nor slirp4netns is installed");
    }
    Ok(Wire::start(launcher, &directory, &cgroup, Record::gateway(), uplink)?)
}

fn start_node(
    cluster: &Cluster,
    wire: &Wire,
    launcher: &Launcher,
    listeners: &[TcpListener],
    node: &NodeRecord,
) -> Result<Host> {
    let spec = nodes::spec(cluster, node)?;
    let own = if node == cluster.record.first() { listeners } else { &[] };
    let descriptors: Vec<BorrowedFd<'_>> = own.iter().map(AsFd::as_fd).collect();
    Ok(wire.start_host(launcher, &spec, &descriptors, node.address, Record::gateway().ip)?)
}

/// Opened on the machine: a listening socket belongs to the network namespace that it was made in.
fn listeners(record: &Record) -> Result<Vec<TcpListener>> {
    let ports = std::iter::once(record.api_port).chain(record.publish.iter().map(|publish| publish.port));
    let open = |port| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on 127.0.0.1:{port} (is another program using the port?)"))
    };
    ports.map(open).collect()
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn say_what_next(cluster: &Cluster) {
    let context = cluster.directory.context();
    eprintln!();
    eprintln!("kubectl's context is now {context} (in {}). Next:", cluster.record.kubeconfig.display());
    eprintln!("  kubectl get nodes -o wide");
    eprintln!("  kubectl get pods -A");
    for publish in &cluster.record.publish {
        eprintln!("  curl http://127.0.0.1:{}/   # node port {}", publish.port, publish.node_port);
    }
    let name = if cluster.name() == "default" { String::new() } else { format!(" --name {}", cluster.name()) };
    eprintln!("  ironclad image load FILE.tar{name}   # bring an image to every node");
    eprintln!("  ironclad down{name}");
}
