//! Directories, memory file systems and host paths; and undoing them.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{ownership, tree};

fn text(operation: &str, path: &Path, error: impl std::fmt::Display) -> String {
    format!("{operation} {}: {error}", path.display())
}

pub(super) fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, group: Option<i64>) -> Result<(), String> {
    // What a container has done to its directory since is the container's to decide.
    let is_new = match source.medium.as_deref().unwrap_or_default() {
        "" if path.exists() => false,
        "" => std::fs::create_dir_all(path).map(|()| true).map_err(|error| text("make", path, error))?,
        "Memory" => tmpfs(path, source.size_limit.as_ref().and_then(|size| size.0.parse().ok()))?,
        other => return Err(format!("storage medium {other:?} is not supported by this node")),
    };
    if !is_new {
        return Ok(());
    }
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(path, open).map_err(|error| text("set mode of", path, error))?;
    ownership::set_group(path, group, false).map_err(|error| text("set group of", path, error))
}

/// Mounts a memory file system, unless one is there; true when it was made.
pub(super) fn tmpfs(path: &Path, size: Option<Quantity>) -> Result<bool, String> {
    std::fs::create_dir_all(path).map_err(|error| text("make", path, error))?;
    if is_mount_point(path) {
        return Ok(false);
    }
    let size = size.map(|size| format!(",size={}", size.value())).unwrap_or_default();
    let options = format!("mode=0777{size}");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map(|()| true)
        .map_err(|error| text("mount tmpfs on", path, error))
}

/// A mount point is on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path))
}

/// Checks what is at the path, or makes it, as its type says.
pub(super) fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = std::fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    let is = |check: fn(&std::fs::FileType) -> bool| found.as_ref().is_some_and(check);
    match kind {
        "DirectoryOrCreate" if found.is_none() => {
            std::fs::create_dir_all(path).map_err(|error| text("make", path, error))?;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path, mode).map_err(|error| text("set mode of", path, error))
        }
        "FileOrCreate" if found.is_none() => {
            std::fs::write(path, b"").map_err(|error| text("make", path, error))?;
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(path, mode).map_err(|error| text("set mode of", path, error))
        }
        "DirectoryOrCreate" | "Directory" if !is(std::fs::FileType::is_dir) => failed("a directory"),
        "FileOrCreate" | "File" if !is(std::fs::FileType::is_file) => failed("a file"),
        "Socket" if !is(std::fs::FileType::is_socket) => failed("a socket file"),
        "CharDevice" if !is(std::fs::FileType::is_char_device) => failed("a character device"),
        "BlockDevice" if !is(std::fs::FileType::is_block_device) => failed("a block device"),
        _ => Ok(()),
    }
}

/// Takes down every mount below a pod's directory and removes it. What a mount hides is not touched: a directory
/// that still is a mount point fails to be removed instead of losing what is mounted there.
pub(super) fn unmount_all(pod_directory: &Path) -> std::io::Result<()> {
    unmount_below(pod_directory)?;
    tree::remove(pod_directory)
}

pub(super) fn unmount_below(pod_directory: &Path) -> std::io::Result<()> {
    let mut points = mounts_below(pod_directory);
    // Innermost first.
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        match umount2(point.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone since the table was read, with the mount above it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Something is mounted at this very path, be it of the same file system.
pub(super) fn is_mounted(path: &Path) -> bool {
    mounts_below(path).iter().any(|point| Path::new(point) == path)
}

fn mounts_below(directory: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(unescape).filter(|point| Path::new(point).starts_with(directory)).collect()
}

/// The kernel writes blanks in paths as `\040`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_types() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("file"), "").unwrap();
        for (name, kind, ok) in [
            ("absent", "", true),
            ("absent", "Directory", false),
            ("made", "DirectoryOrCreate", true),
            ("made", "Directory", true),
            ("made", "File", false),
            ("made-file", "FileOrCreate", true),
            ("file", "File", true),
            ("file", "Socket", false),
            ("file", "DirectoryOrCreate", false),
        ] {
            let source = HostPathVolumeSource { path: at(name), type_: Some(kind.into()) };
            assert_eq!(host_path(&source).is_ok(), ok, "{name} {kind}");
        }
    }
}
