//! What the host has, read once; and how much of it is left, read when asked.

use std::collections::BTreeMap;
use std::path::Path;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::VERSION;
use crate::config::Config;

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub info: NodeSystemInfo,
    pub has_apparmor: bool,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A value of `/proc/meminfo`, in bytes.
fn memory(key: &str) -> i64 {
    let table = read("/proc/meminfo");
    let line = table.lines().find(|line| line.starts_with(key));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse::<i64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn os_image() -> String {
    let release = read("/etc/os-release");
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

impl Machine {
    pub(crate) fn read(runtime: &cri::v1::VersionResponse) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let info = NodeSystemInfo {
            architecture: architecture.to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!(
                "{}://{}",
                runtime.runtime_name,
                runtime.runtime_version.trim_start_matches('v')
            ),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.to_owned(),
            machine_id: read("/etc/machine-id"),
            operating_system: "linux".to_owned(),
            os_image: os_image(),
            system_uuid: read("/sys/class/dmi/id/product_uuid"),
            ..NodeSystemInfo::default()
        };
        Self {
            milli_cpu: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory_bytes: memory("MemTotal:"),
            info,
            has_apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        }
    }

    pub(crate) fn memory_available() -> i64 {
        memory("MemAvailable:")
    }

    /// Capacity and free bytes, and capacity and free inodes, of the file system at `path`.
    pub(crate) fn disk(path: &Path) -> Option<Disk> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(Disk {
            capacity: stat.f_blocks * stat.f_frsize,
            available: stat.f_bavail * stat.f_frsize,
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }

    pub(crate) fn ephemeral_bytes(&self, root: &Path) -> i64 {
        Self::disk(root).map_or(0, |disk| i64::try_from(disk.capacity).unwrap_or(i64::MAX))
    }

    pub(crate) fn capacity(&self, config: &Config) -> BTreeMap<String, WireQuantity> {
        let kibibytes = |bytes: i64| WireQuantity(format!("{}Ki", bytes / 1024));
        BTreeMap::from([
            ("cpu".to_owned(), WireQuantity((self.milli_cpu / 1000).to_string())),
            ("ephemeral-storage".to_owned(), kibibytes(self.ephemeral_bytes(&config.root_dir))),
            ("hugepages-1Gi".to_owned(), WireQuantity("0".into())),
            ("hugepages-2Mi".to_owned(), WireQuantity("0".into())),
            ("memory".to_owned(), kibibytes(self.memory_bytes)),
            ("pods".to_owned(), WireQuantity(config.max_pods.to_string())),
        ])
    }

    /// Capacity less what is reserved, and less what eviction keeps free.
    pub(crate) fn allocatable_list(&self, config: &Config) -> BTreeMap<String, WireQuantity> {
        let mut list = self.capacity(config);
        for (name, reserved) in &config.reserved {
            subtract(&mut list, name, reserved);
        }
        subtract(&mut list, "memory", &format!("{}Ki", config.thresholds.memory_bytes / 1024));
        if let Some(disk) = list.get("ephemeral-storage").and_then(|q| q.0.parse::<Quantity>().ok()) {
            // Plain bytes, as upstream reports it.
            let usable = 100 - i64::try_from(config.thresholds.disk_percent).unwrap_or(0);
            list.insert("ephemeral-storage".into(), WireQuantity((disk.value() / 100 * usable).to_string()));
        }
        list
    }

    /// Allocatable milli-cpu and bytes of memory.
    pub(crate) fn allocatable(&self, config: &Config) -> (i64, i64) {
        let list = self.allocatable_list(config);
        let value = |name: &str| list.get(name).and_then(|q| q.0.parse::<Quantity>().ok());
        (value("cpu").map_or(0, |q| q.milli_value()), value("memory").map_or(0, |q| q.value()))
    }

    /// Labels that this node gives itself.
    pub(crate) fn labels(&self, config: &Config) -> BTreeMap<String, String> {
        let own = [
            ("kubernetes.io/hostname", config.node_name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", &self.info.architecture),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", &self.info.architecture),
        ];
        let mut labels = config.labels.clone();
        labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        labels
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    pub capacity: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

fn subtract(list: &mut BTreeMap<String, WireQuantity>, name: &str, amount: &str) {
    let Some(quantity) = list.get_mut(name) else { return };
    let (Ok(mut left), Ok(amount)) = (quantity.0.parse::<Quantity>(), amount.parse::<Quantity>()) else { return };
    left.sub(&amount);
    if left.sign() < 0 {
        left = Quantity::zero();
    }
    quantity.0 = left.to_string();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_are_taken_off() {
        let mut list = BTreeMap::from([
            ("cpu".to_owned(), WireQuantity("2".into())),
            ("memory".to_owned(), WireQuantity("1Gi".into())),
        ]);
        subtract(&mut list, "cpu", "100m");
        subtract(&mut list, "memory", "2Gi");
        subtract(&mut list, "other", "1");
        assert_eq!(list["cpu"].0, "1900m");
        assert_eq!(list["memory"].0, "0");
    }
}
