//! The host's file tree: the machine's, with everything written going to the host's own directory.
//!
//! The root and every further disk of the machine become the lower layer of an overlay whose upper layer lies in the
//! host's directory. So a missing mount point can be made, and a file changed, without touching the machine.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, statfs};

use crate::cgroup::{self, Hierarchy};
use crate::mountinfo::{self, Mount};
use crate::{Error, HostSpec, MountSpec};

/// Filesystems that are not files of the machine: made anew where the host needs them, left out otherwise.
const NOT_FILES: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.lxcfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

const NONE: Option<&str> = None;

/// Makes the tree and moves into it.
pub(super) fn assemble(spec: &HostSpec, hierarchies: &[Hierarchy]) -> Result<(), Error> {
    check_filesystem(&spec.directory)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(Error::call("make / private"))?;
    let root = spec.directory.join("root");
    make(&root)?;
    overlay(Path::new("/"), &root, &spec.directory.join("disk/root"))?;
    mirror_disks(spec, &root)?;
    mount_kernel_trees(&root, hierarchies)?;
    for entry in &spec.mounts {
        mount_entry(entry, &root, &spec.directory)?;
    }
    pivot(&root)
}

/// The upper layer of an overlay cannot lie on an overlay.
fn check_filesystem(directory: &Path) -> Result<(), Error> {
    let found = statfs(directory).map_err(Error::call(format!("examine {}", directory.display())))?;
    let refuse = |filesystem| Err(Error::Filesystem { path: directory.to_owned(), filesystem });
    match found.filesystem_type() {
        OVERLAYFS_SUPER_MAGIC => refuse("overlayfs"),
        FsType(0x6969) => refuse("NFS"),
        _ => Ok(()),
    }
}

fn overlay(lower: &Path, target: &Path, layers: &Path) -> Result<(), Error> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    make(&upper)?;
    make(&work)?;
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(Error::call(format!("mount an overlay of {} with {}", lower.display(), layers.display())))
}

/// The machine's further disks (`/home`, `/usr` ...), each behind an overlay of its own.
fn mirror_disks(spec: &HostSpec, root: &Path) -> Result<(), Error> {
    for (index, disk) in disks(&mountinfo::read()?, spec).into_iter().enumerate() {
        let target = beneath(root, &disk);
        if disk.is_dir() {
            make(&target)?;
            if overlay(&disk, &target, &spec.directory.join(format!("disk/{index}"))).is_ok() {
                continue;
            }
            // A filesystem that cannot be a lower layer is shown as it is, and cannot be written to.
            bind(&disk, &target, true)?;
        } else if target.exists() {
            bind(&disk, &target, true)?;
        }
    }
    Ok(())
}

fn disks(mounts: &[Mount], spec: &HostSpec) -> Vec<PathBuf> {
    let replaced = |point: &Path| {
        let kernel = ["/proc", "/sys", "/dev", "/run"].iter().any(|top| point.starts_with(top));
        let own = point.starts_with(&spec.directory);
        kernel || own || spec.mounts.iter().any(|m| point.starts_with(m.target()))
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let is_file = !NOT_FILES.contains(&mount.kind.as_str());
        if is_file && mount.point != Path::new("/") && !replaced(&mount.point) && !found.contains(&mount.point) {
            found.push(mount.point.clone());
        }
    }
    found
}

fn mount_kernel_trees(root: &Path, hierarchies: &[Hierarchy]) -> Result<(), Error> {
    let fresh = |kind: &str, target: &str, options: Option<&str>| {
        let target = root.join(target);
        make(&target)?;
        mount(Some(kind), &target, Some(kind), MsFlags::empty(), options)
            .map_err(Error::call(format!("mount {kind} on {}", target.display())))
    };
    fresh("proc", "proc", None)?;
    fresh("sysfs", "sys", None)?;
    cgroup::mount_beneath(root, hierarchies)?;
    let devices = root.join("dev");
    make(&devices)?;
    mount(Some("/dev"), &devices, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .map_err(Error::call(format!("bind /dev to {}", devices.display())))?;
    fresh("tmpfs", "dev/shm", Some("mode=1777"))?;
    if devices.join("mqueue").is_dir() {
        fresh("mqueue", "dev/mqueue", None)?;
    }
    Ok(())
}

fn mount_entry(entry: &MountSpec, root: &Path, directory: &Path) -> Result<(), Error> {
    let target = beneath(root, entry.target());
    match entry {
        MountSpec::Tmpfs { mode, .. } => {
            make(&target)?;
            let options = format!("mode={mode:o}");
            mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
                .map_err(Error::call(format!("mount tmpfs on {}", target.display())))
        }
        MountSpec::Own { target: path } => {
            let source = beneath(&directory.join("own"), path);
            make(&source)?;
            make(&target)?;
            bind(&source, &target, false)
        }
        MountSpec::Bind { source, read_only, .. } => {
            if source.is_dir() {
                make(&target)?;
            } else {
                make_file(&target)?;
            }
            bind(source, &target, *read_only)
        }
    }
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Error> {
    let what = || format!("bind {} to {}", source.display(), target.display());
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(Error::call(what()))?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, target, NONE, flags, NONE).map_err(Error::call(what()))?;
    }
    Ok(())
}

/// Exchanges the root. Mounts made from now on are shared within the host, as a machine's are.
fn pivot(root: &Path) -> Result<(), Error> {
    nix::unistd::chdir(root).map_err(Error::call(format!("enter {}", root.display())))?;
    nix::unistd::pivot_root(".", ".").map_err(Error::call("exchange the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::call("leave the machine's root"))?;
    nix::unistd::chdir("/").map_err(Error::call("enter /"))?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).map_err(Error::call("share mounts"))
}

fn beneath(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::file("make", directory))
}

fn make_file(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        make(parent)?;
    }
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(Error::file("make", path))
}

impl MountSpec {
    /// Where it is, in the host.
    pub fn target(&self) -> &Path {
        match self {
            Self::Tmpfs { target, .. } | Self::Own { target } | Self::Bind { target, .. } => target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(point: &str, kind: &str) -> Mount {
        Mount { root: "/".into(), point: point.into(), kind: kind.to_owned(), options: Vec::new() }
    }

    #[test]
    fn disks_are_mirrored_unless_the_host_has_its_own() {
        let spec = HostSpec {
            name: "a".to_owned(),
            directory: "/data/hosts/a".into(),
            cgroup: "a".into(),
            mounts: vec![
                MountSpec::Own { target: "/var/lib/containerd".into() },
                MountSpec::Tmpfs { target: "/tmp".into(), mode: 0o1777 },
            ],
            files: Vec::new(),
            commands: Vec::new(),
            sockets: Vec::new(),
            settings: Vec::new(),
        };
        let mounts = [
            mounted("/", "ext4"),
            mounted("/home", "xfs"),
            mounted("/data", "ext4"),
            mounted("/data/hosts/a/root", "overlay"),
            mounted("/var/lib/containerd", "ext4"),
            mounted("/tmp", "ext4"),
            mounted("/run/user", "ext4"),
            mounted("/sys/fs/cgroup/cpu", "cgroup"),
            mounted("/opt/memory", "tmpfs"),
            mounted("/etc/resolv.conf", "ext4"),
            mounted("/home", "xfs"),
        ];
        let found = disks(&mounts, &spec);
        let expected: Vec<PathBuf> = ["/home", "/data", "/etc/resolv.conf"].map(PathBuf::from).to_vec();
        assert_eq!(found, expected);
    }
}
