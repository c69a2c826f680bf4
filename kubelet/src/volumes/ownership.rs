//! The group of a volume (`fsGroup`).
//!
//! What lies in a volume is its users' to change, also while this looks at it: every entry is opened first, without
//! following links, and everything is done to what was opened.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags};

/// Directories inside each other, at most: each one holds a descriptor while it is walked.
const MAX_DEPTH: usize = 256;
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives everything below to the group: readable, and writable unless read-only; new files inherit it.
pub(super) fn set_group(path: &Path, group: Option<i64>, read_only: bool) -> io::Result<()> {
    let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else { return Ok(()) };
    let root = rustix::fs::openat(CWD, path, LOOK, Mode::empty())?;
    let mut open: Vec<Dir> = list(&root)?.into_iter().collect();
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        let opened = match rustix::fs::openat(directory.fd()?, entry.file_name(), LOOK, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            opened => opened?,
        };
        if let Some(inner) = hand_over(&opened, group, read_only)? {
            if open.len() >= MAX_DEPTH {
                return Err(io::Error::other(format!("directories lie more than {MAX_DEPTH} deep")));
            }
            open.push(inner);
        }
    }
    // Last: that it is done says that everything is.
    hand_over(&root, group, read_only)?;
    Ok(())
}

/// As [`set_group`], unless `marker` says that it was done, or the root shows it and that is enough.
pub(super) fn set_group_once(
    marker: &Path,
    path: &Path,
    group: i64,
    read_only: bool,
    only_on_mismatch: bool,
) -> io::Result<()> {
    if marker.try_exists()? {
        return Ok(());
    }
    if !(only_on_mismatch && matches(path, group, read_only)?) {
        set_group(path, Some(group), read_only)?;
    }
    if let Some(parent) = marker.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(marker, b"")
}

/// The root of a volume has the group, and the mode that goes with it.
fn matches(path: &Path, group: i64, read_only: bool) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path)?;
    let wanted = group_mode(metadata.is_dir(), read_only);
    Ok(i64::from(metadata.gid()) == group && metadata.mode() & wanted == wanted)
}

fn group_mode(is_directory: bool, read_only: bool) -> u32 {
    match (is_directory, read_only) {
        (true, true) => 0o2550,
        (true, false) => 0o2770,
        (false, true) => 0o440,
        (false, false) => 0o660,
    }
}

/// Changes one entry; what lies in it, when it is a directory.
fn hand_over(entry: &OwnedFd, group: u32, read_only: bool) -> io::Result<Option<Dir>> {
    let status = rustix::fs::fstat(entry)?;
    rustix::fs::chownat(entry.as_fd(), c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if kind == FileType::Symlink {
        return Ok(None);
    }
    let mode = (status.st_mode & 0o7777) | group_mode(kind == FileType::Directory, read_only);
    // The link leads to what is open here, wherever the name leads by now.
    std::fs::set_permissions(format!("/proc/self/fd/{}", entry.as_raw_fd()), std::fs::Permissions::from_mode(mode))?;
    list(entry)
}

/// What lies in the entry, when it is a directory.
fn list(entry: &OwnedFd) -> io::Result<Option<Dir>> {
    if FileType::from_raw_mode(rustix::fs::fstat(entry)?.st_mode) != FileType::Directory {
        return Ok(None);
    }
    Ok(Some(Dir::read_from(rustix::fs::openat(entry, c".", LIST, Mode::empty())?)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn everything_inside_and_nothing_outside() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, outside) = (directory.path().join("v"), directory.path().join("outside"));
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::write(volume.join("a/file"), "").unwrap();
        std::fs::write(&outside, "").unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
        // Any group but root's: the own one when this runs as somebody else.
        let group = if rustix::process::geteuid().is_root() { 1234 } else { rustix::process::getegid().as_raw() };
        set_group(&volume, Some(i64::from(group)), false).unwrap();
        for (path, mode) in [("", 0o2770), ("a", 0o2770), ("a/b", 0o2770), ("a/file", 0o660)] {
            let metadata = std::fs::symlink_metadata(volume.join(path)).unwrap();
            assert_eq!(metadata.gid(), group, "{path}");
            assert_eq!(metadata.mode() & mode, mode, "{path}");
        }
        assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o7777, 0o600, "what a link names stays");
        set_group(&volume, None, false).unwrap();
    }

    #[test]
    fn once_in_a_pods_life() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, marker) = (directory.path().join("v"), directory.path().join("marks/v"));
        let file = volume.join("file");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(&file, "").unwrap();
        let group = i64::from(rustix::process::getegid().as_raw());
        let close = || std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mode = || std::fs::metadata(&file).unwrap().mode() & 0o7777;
        close();
        set_group_once(&marker, &volume, group, false, true).unwrap();
        assert_eq!(mode(), 0o660, "the root did not match");
        close();
        set_group_once(&marker, &volume, group, false, false).unwrap();
        assert_eq!(mode(), 0o600, "it was done for this pod");
        std::fs::remove_file(&marker).unwrap();
        set_group_once(&marker, &volume, group, false, true).unwrap();
        assert_eq!(mode(), 0o600, "the root matches");
        std::fs::remove_file(&marker).unwrap();
        set_group_once(&marker, &volume, group, false, false).unwrap();
        assert_eq!(mode(), 0o660, "another pod that wants it always");
    }

    #[test]
    fn a_bottomless_tree_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().to_owned();
        for _ in 0..=MAX_DEPTH {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
        let group = i64::from(rustix::process::getegid().as_raw());
        assert!(set_group(directory.path(), Some(group), false).is_err());
    }
}
