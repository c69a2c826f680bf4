//! Writes a set of files so that a reader sees the old set or the new one, never a mixture.
//!
//! The files of one version lie in a directory named by time; `..data` links to it, and every name that a user sees
//! links through `..data`. A rename of the link is the switch. Upstream's writer lays the same files out the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::ownership;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Owner, when it is not root: a token is readable by the user its pod runs as.
    pub owner: Option<u32>,
}

/// Relative paths and what they hold.
pub(super) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// A path that stays inside the volume.
pub(super) fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let normal = parts.all(|part| matches!(part, Component::Normal(_)));
    normal && !path.is_empty() && !path.starts_with("..")
}

/// Makes `target` hold exactly `files`. Writes nothing when it does already.
pub(super) fn write(target: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    if let Some(path) = files.keys().find(|path| !is_inside(path)) {
        return Err(io::Error::other(format!("invalid path {path:?} in volume")));
    }
    std::fs::create_dir_all(target)?;
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o777))?;
    let now = std::fs::read_link(target.join(DATA)).ok();
    // The last write may have been interrupted, or have failed half way. On a full disk each try would leave a version.
    remove_versions(target, now.as_deref())?;
    if now.as_deref().is_some_and(|now| holds(&target.join(now), files)) {
        return link_names(target, files);
    }
    let version = new_version(target)?;
    let name = PathBuf::from(version.file_name().unwrap_or_default());
    if let Err(error) = fill(&version, files, group).and_then(|()| switch(target, &name)) {
        let _ = std::fs::remove_dir_all(version);
        return Err(error);
    }
    link_names(target, files)?;
    remove_versions(target, Some(&name))?;
    ownership::set_group(target, group, true)
}

fn fill(version: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    for (path, file) in files {
        write_file(&version.join(path), file, group)?;
    }
    if group.is_some() {
        // Before anybody can see it: who reads at the moment of the switch is let in.
        ownership::set_group(version, group, true)?;
    }
    Ok(())
}

fn switch(target: &Path, name: &Path) -> io::Result<()> {
    let _ = std::fs::remove_file(target.join(DATA_NEW));
    symlink(name, target.join(DATA_NEW))?;
    std::fs::rename(target.join(DATA_NEW), target.join(DATA))
}

/// Removes all versions but the one that is in use.
fn remove_versions(target: &Path, used: Option<&Path>) -> io::Result<()> {
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        let is_version = entry.file_name().to_string_lossy().starts_with("..") && entry.file_type()?.is_dir();
        if is_version && Some(Path::new(&entry.file_name())) != used {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn new_version(target: &Path) -> io::Result<PathBuf> {
    let now = daemon::clock::now().to_zoned(jiff::tz::TimeZone::UTC);
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    for attempt in 0..u32::MAX {
        let version = target.join(format!("{stamp}.{}", rand::random::<u32>().wrapping_add(attempt)));
        match std::fs::create_dir(&version) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => {
                outcome?;
                std::fs::set_permissions(&version, std::fs::Permissions::from_mode(0o755))?;
                return Ok(version);
            }
        }
    }
    Err(io::Error::other("no free name for a version of the volume"))
}

fn write_file(path: &Path, file: &File, group: Option<i64>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, &file.bytes)?;
    // With a group, group members can read what the owner can.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    match file.owner {
        Some(owner) => chown(path, Some(owner), None),
        None => Ok(()),
    }
}

fn holds(version: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    collect(version, version, &mut found);
    let wanted: BTreeSet<&str> = files.keys().map(String::as_str).collect();
    if found.iter().map(String::as_str).collect::<BTreeSet<_>>() != wanted {
        return false;
    }
    files.iter().all(|(path, file)| std::fs::read(version.join(path)).is_ok_and(|bytes| bytes == file.bytes))
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// One link per name at the top; links of names that are gone are removed.
fn link_names(target: &Path, files: &Files) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().map(|path| first_part(path)).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), target.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in std::fs::read_dir(target)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(name.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.into(), mode: 0o644, owner: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn names(target: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(target).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with(".."));
        names.sort();
        names
    }

    #[test]
    fn switches_between_versions() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("v");
        write(&target, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(names(&target), ["a", "d"]);
        assert_eq!(std::fs::read_to_string(target.join("d/b")).unwrap(), "2");
        let version = std::fs::read_link(target.join(DATA)).unwrap();

        write(&target, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(std::fs::read_link(target.join(DATA)).unwrap(), version, "nothing changed, nothing written");

        write(&target, &files(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(names(&target), ["a", "c"]);
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "3");
        assert!(!target.join(version).exists(), "the old version is gone");
    }

    #[test]
    fn an_interrupted_write_is_completed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("v");
        let wanted = files(&[("a", "1"), ("b", "2")]);
        write(&target, &wanted, None).unwrap();
        std::fs::remove_file(target.join("b")).unwrap();
        symlink("..data/gone", target.join("gone")).unwrap();
        write(&target, &wanted, None).unwrap();
        assert_eq!(names(&target), ["a", "b"]);
    }

    #[test]
    fn a_write_that_fails_or_was_killed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("v");
        let versions = || {
            let entries = std::fs::read_dir(&target).unwrap().map(Result::unwrap);
            entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
        };
        let impossible = files(&[("a", "a file"), ("a/b", "in a file")]);
        assert!(write(&target, &impossible, None).is_err());
        assert_eq!(versions(), 0);
        let wanted = files(&[("a", "1")]);
        write(&target, &wanted, None).unwrap();
        assert!(write(&target, &impossible, None).is_err());
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "1", "the old version stays");
        std::fs::create_dir(target.join("..2026_01_02_03_04_05.6")).unwrap();
        assert_eq!(versions(), 2);
        write(&target, &wanted, None).unwrap();
        assert_eq!(versions(), 1);
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "1");
    }

    #[test]
    fn stays_inside() {
        for (path, inside) in
            [("a", true), ("a/b", true), ("", false), ("/a", false), ("../a", false), ("a/../b", false), ("..a", false)]
        {
            assert_eq!(is_inside(path), inside, "{path}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(write(directory.path(), &files(&[("../x", "1")]), None).is_err());
    }
}
