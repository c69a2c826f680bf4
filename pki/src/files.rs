//! Files of keys and certificates: written whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Error;

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Writes a file that only its owner may read (0600). Its directory is made when missing (0700).
pub fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    write(path, content, 0o600)
}

/// Writes a file that everyone may read (0644). Its directory is made when missing (0700).
pub fn write_public(path: &Path, content: &str) -> Result<(), Error> {
    write(path, content, 0o644)
}

/// Writes beside the target and renames, so that a reader or a crash never meets half a key.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    replace(path, content, mode).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, content: &str, mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(parent)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&name);
    // A leftover of a crashed writer could have a wider mode: never reuse it.
    let _ = fs::remove_file(temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
