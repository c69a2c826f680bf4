//! A node of a cluster as a throw-away host: its mounts, files and commands.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cri::containerd::Snapshotter;
use host::{CommandSpec, FileSpec, HostSpec, MountSpec, Restart};

use super::record::NodeRecord;
use super::{Cluster, Record};
use crate::node::{PATH, containerd};
use crate::{environment, paths};

/// Where the binary stands in a host.
pub(crate) const EXECUTABLE: &str = "/usr/local/bin/ironclad";

/// The handed-in socket of the API.
pub(super) const API_SOCKET: &str = "api";

const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// Directories that a node writes to. The machine's own of the same names are not seen in it.
const OWN: [&str; 13] = [
    "/etc/cni",
    "/etc/containerd",
    "/etc/ironclad",
    "/etc/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    paths::STATE,
    "/var/log/containers",
    "/var/log/pods",
    "/var/tmp",
];

pub(super) fn spec(cluster: &Cluster, node: &NodeRecord) -> Result<HostSpec> {
    let is_first = node == cluster.record.first();
    Ok(HostSpec {
        name: node.name.clone(),
        directory: cluster.directory.host(&node.name),
        cgroup: cluster.directory.cgroup().join(&node.name),
        mounts: mounts()?,
        files: files(cluster, node)?,
        commands: commands(cluster, node),
        sockets: if is_first { sockets(&cluster.record) } else { Vec::new() },
        // The node's own start sets what it needs, in its own network namespace.
        settings: Vec::new(),
    })
}

/// The names of the sockets that the first node is handed, in the order in which they are opened.
pub(super) fn sockets(record: &Record) -> Vec<String> {
    let published = record.publish.iter().map(|publish| publish_socket(publish.port));
    std::iter::once(API_SOCKET.to_owned()).chain(published).collect()
}

fn publish_socket(port: u16) -> String {
    format!("publish-{port}")
}

fn mounts() -> Result<Vec<MountSpec>> {
    let mut mounts = vec![
        MountSpec::Tmpfs { target: "/run".into(), mode: 0o755 },
        MountSpec::Tmpfs { target: "/tmp".into(), mode: 0o1777 },
    ];
    mounts.extend(OWN.iter().map(|target| MountSpec::Own { target: PathBuf::from(target) }));
    mounts.push(MountSpec::Bind { source: environment::executable()?, target: EXECUTABLE.into(), read_only: true });
    Ok(mounts)
}

fn files(cluster: &Cluster, node: &NodeRecord) -> Result<Vec<FileSpec>> {
    let own = containerd::own(Path::new(CONTAINERD_CONFIG), Snapshotter::Overlayfs)?;
    let hosts: String =
        cluster.record.nodes.iter().map(|node| format!("{} {}\n", node.address.ip, node.name)).collect();
    let mut files = vec![
        (CONTAINERD_CONFIG, cri::containerd::config_toml(&own)),
        ("/etc/hostname", format!("{}\n", node.name)),
        ("/etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n{hosts}")),
        ("/etc/machine-id", format!("{}\n", machine_id(cluster.name(), &node.name))),
    ];
    // Without a way out, the gateway says at once that there is none: better than a name server that never answers.
    let name_server =
        if cluster.has_uplink() { host::NAME_SERVER.to_owned() } else { Record::gateway().ip.to_string() };
    files.push(("/etc/resolv.conf", format!("nameserver {name_server}\n")));
    let file = |(path, content): (&str, String)| FileSpec { path: path.into(), content, mode: 0o644 };
    Ok(files.into_iter().map(file).collect())
}

/// The same for the same node, another for every other.
fn machine_id(cluster: &str, node: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{cluster}/{node}").as_bytes());
    hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each is started again by PID 1 when it ends, and none is another's child: the end of the control plane is not the
/// end of the node's agents, nor of containerd.
fn commands(cluster: &Cluster, node: &NodeRecord) -> Vec<CommandSpec> {
    let first = cluster.record.first();
    let server = format!("https://{}:6443", first.address.ip);
    let mut commands = vec![
        command("containerd", &["/usr/bin/env", "containerd", "--config", CONTAINERD_CONFIG, "--log-level", "warn"]),
        command(
            "agent",
            &[
                EXECUTABLE,
                "agent",
                &format!("--server={server}"),
                &format!("--node-name={}", node.name),
                &format!("--node-ip={}", node.address.ip),
                &format!("--containerd={}", containerd::SOCKET),
                // The disk is the machine's, and not the cluster's to keep free: a laptop's is often nearly full.
                "--kubelet-arg=eviction-hard=nodefs.available<0%",
                "--kubelet-arg=eviction-hard=nodefs.inodesFree<0%",
                "--kubelet-arg=image-gc-high-threshold=100",
            ],
        ),
    ];
    if node != first {
        return commands;
    }
    let replicas = cluster.record.nodes.len().min(2);
    let mut control_plane = command(
        "server",
        &[
            EXECUTABLE,
            "server",
            "--disable-agent",
            &format!("--node-name={}", node.name),
            &format!("--node-ip={}", node.address.ip),
            &format!("--dns-replicas={replicas}"),
        ],
    );
    control_plane.sockets = vec![API_SOCKET.to_owned()];
    commands.insert(0, control_plane);
    commands.extend(cluster.record.publish.iter().map(|publish| {
        let name = publish_socket(publish.port);
        let target = format!("{}:{}", node.address.ip, publish.node_port);
        let mut forward = command(&name, &[EXECUTABLE, "host-forward", &target]);
        forward.sockets = vec![name];
        forward
    }));
    commands
}

fn command(name: &str, argv: &[&str]) -> CommandSpec {
    CommandSpec {
        name: name.to_owned(),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: [("PATH", PATH), ("HOME", "/root")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
        restart: Restart::Always,
        sockets: Vec::new(),
    }
}
