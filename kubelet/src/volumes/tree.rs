//! Removing a directory whatever a container has put into it.
//!
//! A tree can be deeper than any stack and than any limit of open files. So nothing here goes down: what is found two
//! levels deep is moved up to the first, until the first is empty.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a directory and everything in it; fine when there is none.
///
/// # Errors
/// The first entry that cannot be removed: a mount point, most likely, which stays with what is mounted there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = match rustix::fs::openat(CWD, path, LIST, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0_u64;
    loop {
        let inner = empty(&top, &mut |_| Ok(false))?;
        if inner.is_empty() {
            break;
        }
        for name in inner {
            let directory = rustix::fs::openat(&top, name.as_c_str(), LIST, Mode::empty())?;
            let mut lift = |name: &CStr| -> io::Result<bool> {
                moved += 1;
                rustix::fs::renameat(&directory, name, &top, format!("..removed-{moved}-{}", rand::random::<u64>()))?;
                Ok(true)
            };
            empty(&directory, &mut lift)?;
            drop(directory);
            rustix::fs::unlinkat(&top, name.as_c_str(), AtFlags::REMOVEDIR)?;
        }
    }
    drop(top);
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what is no directory; the names of the directories that `take` did not take care of.
fn empty(directory: &OwnedFd, take: &mut dyn FnMut(&CStr) -> io::Result<bool>) -> io::Result<Vec<std::ffi::CString>> {
    let mut left = Vec::new();
    for name in names(directory)? {
        match rustix::fs::unlinkat(directory, name.as_c_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Linux says the first, POSIX the second.
            Err(Errno::ISDIR | Errno::PERM) => {
                if !take(&name)? {
                    left.push(name);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(left)
}

/// Read before anything is changed: what a listing shows of a directory that changes is anybody's guess.
fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let borrowed: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(directory);
    let listing = Dir::read_from(borrowed)?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_tree_goes_and_what_links_name_stays() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        let top = directory.path().join("top");
        for path in ["a/b/c", "a/d", "e"] {
            std::fs::create_dir_all(top.join(path)).unwrap();
            std::fs::write(top.join(path).join("file"), "").unwrap();
            std::os::unix::fs::symlink(&outside, top.join(path).join("link")).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists() && outside.join("file").exists());
        remove(&top).expect("nothing is there any more");
    }

    /// Deeper than a path is long, than descriptors are allowed, and than a stack goes.
    #[test]
    fn a_bottomless_tree_goes() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut at = rustix::fs::openat(CWD, &top, LIST, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", LIST, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&top).unwrap();
        assert!(!top.exists());
    }
}
