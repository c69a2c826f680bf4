//! Directories that other users of the host cannot look into: pods keep secrets, tokens and logs below them.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

const MODE: u32 = 0o750;

/// Makes a directory, and closes one that stood open.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        // Those above belong to somebody else.
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome?,
    }
    if std::fs::metadata(path)?.permissions().mode() & 0o7777 == MODE {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_and_repaired() {
        let outer = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let path = outer.path().join("a/b");
        directory(&path).unwrap();
        assert_eq!(mode(&path), 0o750);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory(&path).unwrap();
        assert_eq!(mode(&path), 0o750);
        std::fs::write(outer.path().join("file"), "").unwrap();
        assert!(directory(&outer.path().join("file/x")).is_err());
    }
}
