//! Cgroups of pods: `<root>/kubepods[/burstable|/besteffort]/pod<uid>`, in cgroup v1, hybrid and v2 trees.
//!
//! The runtime makes the containers' cgroups below; this sets what a whole pod may use. Controllers that need
//! nothing set are left to the runtime, which makes the directories it needs.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::config;
use crate::pod::{self, Qos, qos_class};
use crate::spec::resources::{PodLimits, shares};

const MOUNT: &str = "/sys/fs/cgroup";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tree {
    /// One directory per controller.
    V1,
    Unified,
}

#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    mount: PathBuf,
    tree: Tree,
    root: String,
    enabled: bool,
}

impl Cgroups {
    pub(crate) fn new(config: &config::Cgroups) -> Self {
        let mount = PathBuf::from(MOUNT);
        // A hybrid tree has v2 below `unified` and its controllers in v1.
        let unified = mount.join("cgroup.controllers").exists();
        let root = config.root.trim_end_matches('/').to_owned();
        Self { tree: if unified { Tree::Unified } else { Tree::V1 }, mount, root, enabled: config.per_qos }
    }

    /// The path inside every hierarchy, as the runtime is told it. Empty: the runtime's default.
    pub(crate) fn parent(&self, pod: &Pod) -> String {
        if !self.enabled {
            return String::new();
        }
        format!("{}/pod{}", self.class(qos_class(pod)), pod::uid(pod))
    }

    fn class(&self, qos: Qos) -> String {
        match qos {
            Qos::Guaranteed => format!("{}/kubepods", self.root),
            Qos::Burstable => format!("{}/kubepods/burstable", self.root),
            Qos::BestEffort => format!("{}/kubepods/besteffort", self.root),
        }
    }

    /// Makes the cgroups of the classes.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            self.make(&self.class(qos))?;
        }
        let least = PodLimits { shares: shares(0), quota: None, period: 0, memory: None };
        self.apply(&self.class(Qos::BestEffort), &least)
    }

    /// Makes a pod's cgroup and sets its limits.
    pub(crate) fn ensure(&self, pod: &Pod, limits: &PodLimits) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let path = self.parent(pod);
        self.make(&path)?;
        self.apply(&path, limits)
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        match self.tree {
            Tree::Unified => vec![self.mount.clone()],
            Tree::V1 => ["cpu", "memory"].iter().map(|name| self.mount.join(name)).filter(|p| p.is_dir()).collect(),
        }
    }

    fn make(&self, path: &str) -> io::Result<()> {
        for hierarchy in self.hierarchies() {
            let mut directory = hierarchy;
            for part in path.split('/').filter(|part| !part.is_empty()) {
                if self.tree == Tree::Unified {
                    delegate(&directory);
                }
                directory.push(part);
                match std::fs::create_dir(&directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
            if self.tree == Tree::Unified {
                delegate(&directory);
            }
        }
        Ok(())
    }

    /// Bytes in use by a pod, or by one of its containers; none when there is nothing to read them from.
    pub(crate) fn memory_usage(&self, pod: &Pod, container: Option<&str>) -> Option<u64> {
        if !self.enabled {
            return None;
        }
        let (hierarchy, file) = match self.tree {
            Tree::Unified => (self.mount.clone(), "memory.current"),
            Tree::V1 => (self.mount.join("memory"), "memory.usage_in_bytes"),
        };
        let mut path = hierarchy.join(self.parent(pod).trim_start_matches('/'));
        path.extend(container);
        std::fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()
    }

    fn apply(&self, path: &str, limits: &PodLimits) -> io::Result<()> {
        let relative = path.trim_start_matches('/');
        for (file, value) in settings(&self.tree, limits) {
            let path = match self.tree {
                Tree::Unified => self.mount.join(relative).join(file),
                Tree::V1 => {
                    let controller = file.split('.').next().unwrap_or_default();
                    self.mount.join(controller).join(relative).join(file)
                }
            };
            if path.exists() {
                std::fs::write(&path, value)?;
            }
        }
        Ok(())
    }

    /// Removes what is left of a pod's cgroup, in every class and hierarchy.
    pub(crate) fn remove(&self, uid: &str) {
        if !self.enabled {
            return;
        }
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let relative = format!("{}/pod{uid}", self.class(qos));
            for hierarchy in self.all_hierarchies() {
                remove_tree(&hierarchy.join(relative.trim_start_matches('/')));
            }
        }
    }

    /// Uids of pods that have a cgroup.
    pub(crate) fn uids(&self) -> Vec<String> {
        let mut uids = Vec::new();
        if !self.enabled {
            return uids;
        }
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            for hierarchy in self.all_hierarchies() {
                let path = hierarchy.join(self.class(qos).trim_start_matches('/'));
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                uids.extend(names.filter_map(|name| name.strip_prefix("pod").map(str::to_owned)));
            }
        }
        uids.sort();
        uids.dedup();
        uids
    }

    /// The runtime makes directories in every hierarchy, not only in those set here.
    fn all_hierarchies(&self) -> Vec<PathBuf> {
        if self.tree == Tree::Unified {
            return vec![self.mount.clone()];
        }
        let entries = std::fs::read_dir(&self.mount).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
    }
}

/// Hands the controllers down; those that the kernel lacks are refused, and missed by nobody.
fn delegate(directory: &Path) {
    for controller in ["cpu", "memory", "pids", "cpuset", "io"] {
        let _ = std::fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A cgroup's directory cannot be emptied, only its children removed first.
fn remove_tree(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Busy while a process is left: tried again by the next cleaning.
    let _ = std::fs::remove_dir(path);
}

/// File and value; a value that means "no limit" where none is set, because limits can be lifted.
fn settings(tree: &Tree, limits: &PodLimits) -> Vec<(&'static str, String)> {
    let none = |text: &str| text.to_owned();
    let memory = limits.memory.map(|bytes| bytes.to_string());
    match tree {
        Tree::V1 => {
            let mut list = vec![("cpu.shares", limits.shares.to_string())];
            if limits.period > 0 {
                list.push(("cpu.cfs_period_us", limits.period.to_string()));
                list.push(("cpu.cfs_quota_us", limits.quota.unwrap_or(-1).to_string()));
            }
            list.push(("memory.limit_in_bytes", memory.unwrap_or_else(|| none("-1"))));
            list
        }
        Tree::Unified => {
            let mut list = vec![("cpu.weight", weight(limits.shares).to_string())];
            if limits.period > 0 {
                let quota = limits.quota.map_or_else(|| none("max"), |quota| quota.to_string());
                list.push(("cpu.max", format!("{quota} {}", limits.period)));
            }
            list.push(("memory.max", memory.unwrap_or_else(|| none("max"))));
            list
        }
    }
}

/// Shares (2..262144) on the scale of weights (1..10000), as upstream maps them.
fn weight(shares: i64) -> i64 {
    (1 + (shares - 2) * 9999 / 262_142).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;
    use crate::spec::resources::pod_limits;

    fn cgroups(tree: Tree, mount: &Path) -> Cgroups {
        Cgroups { mount: mount.to_owned(), tree, root: "/host1".into(), enabled: true }
    }

    #[test]
    fn paths_by_class() {
        let cgroups = cgroups(Tree::V1, Path::new("/x"));
        for (resources, expected) in [
            (json!({}), "/host1/kubepods/besteffort/podu1"),
            (json!({"requests": {"cpu": "1"}}), "/host1/kubepods/burstable/podu1"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "/host1/kubepods/podu1"),
        ] {
            let pod = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
            assert_eq!(cgroups.parent(&pod), expected);
        }
    }

    #[test]
    fn limits_are_written_where_the_tree_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let pod_dir = "host1/kubepods/podu1";
        for controller in ["cpu", "memory"] {
            std::fs::create_dir_all(directory.path().join(controller).join(pod_dir)).unwrap();
        }
        let quota = directory.path().join("cpu").join(pod_dir).join("cpu.cfs_quota_us");
        std::fs::write(&quota, "").unwrap();
        let cgroups = cgroups(Tree::V1, directory.path());
        let pod =
            pod(json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}));
        cgroups.ensure(&pod, &pod_limits(&pod)).unwrap();
        assert_eq!(std::fs::read_to_string(quota).unwrap(), "50000");
    }

    #[test]
    fn usage_is_read_where_the_tree_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let pod = pod(json!({"containers": [{"name": "c"}]}));
        let own = "host1/kubepods/besteffort/podu1";
        for (tree, path, file) in [
            (Tree::Unified, own.to_owned(), "memory.current"),
            (Tree::V1, format!("memory/{own}"), "memory.usage_in_bytes"),
        ] {
            let cgroups = cgroups(tree, directory.path());
            assert_eq!(cgroups.memory_usage(&pod, None), None);
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.join("id")).unwrap();
            std::fs::write(path.join(file), "4096\n").unwrap();
            std::fs::write(path.join("id").join(file), "1024\n").unwrap();
            assert_eq!(cgroups.memory_usage(&pod, None), Some(4096));
            assert_eq!(cgroups.memory_usage(&pod, Some("id")), Some(1024));
        }
    }

    #[test]
    fn values() {
        let limits = PodLimits { shares: 1024, quota: Some(50_000), period: 100_000, memory: None };
        let unified = settings(&Tree::Unified, &limits);
        assert_eq!(
            unified,
            [("cpu.weight", "39".into()), ("cpu.max", "50000 100000".into()), ("memory.max", "max".to_owned())]
        );
        assert_eq!(settings(&Tree::V1, &limits)[3], ("memory.limit_in_bytes", "-1".into()));
    }
}
