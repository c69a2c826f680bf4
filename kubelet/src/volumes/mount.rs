//! Directories, memory file systems and host paths; and undoing them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

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
    let mut points = mounts_below(pod_directory)?;
    // Innermost first.
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    for point in points {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone since the table was read, with the mount above it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Something is mounted at this very path, be it of the same file system.
pub(super) fn is_mounted(path: &Path) -> std::io::Result<bool> {
    Ok(mounts_below(path)?.iter().any(|point| point == path))
}

/// Fails rather than say that nothing is mounted: what is removed then must not be what a mount shows.
fn mounts_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut points = points(&std::fs::read("/proc/self/mountinfo")?);
    points.retain(|point| point.starts_with(directory));
    Ok(points)
}

/// Where something is mounted, by the kernel's table. Paths are bytes: others' mounts need not be text.
fn points(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(|point| OsString::from_vec(unescape(point)).into()).collect()
}

/// The kernel writes blanks and backslashes in paths as three octal digits: `\040`.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_bytes() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /a\\040b\\134040 rw - tmpfs t rw\n\
            3 1 0:6 / /odd/\xff rw - tmpfs t rw\n";
        let odd = PathBuf::from(OsString::from_vec(b"/odd/\xff".to_vec()));
        assert_eq!(points(table), [PathBuf::from("/"), PathBuf::from("/a b\\040"), odd]);
        assert!(mounts_below(Path::new("/")).unwrap().contains(&PathBuf::from("/")));
    }

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
