//! Images made of files, in the form of `docker save`, for `ironclad image load`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Debian's statically linked busybox.
const BUSYBOX: &str = "/bin/busybox";

/// An image of one layer.
pub struct Image {
    name: String,
    layer: Builder<Vec<u8>>,
    entrypoint: Vec<String>,
    env: Vec<String>,
}

impl Image {
    /// An image without files. `name` has a tag.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), layer: Builder::new(Vec::new()), entrypoint: Vec::new(), env: Vec::new() }
    }

    /// An image with busybox and a link for each of its commands.
    ///
    /// # Errors
    /// When busybox is not installed.
    pub fn busybox(name: &str) -> io::Result<Self> {
        let mut image = Self::new(name);
        for folder in ["bin", "etc", "tmp", "www", "root"] {
            image.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 })?;
        }
        image.file("bin/busybox", &fs::read(BUSYBOX)?, 0o755)?;
        let listed = std::process::Command::new(BUSYBOX).arg("--list").output()?;
        for command in String::from_utf8_lossy(&listed.stdout).lines().filter(|c| *c != "busybox") {
            image.link(&format!("bin/{command}"), "busybox")?;
        }
        image.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)?;
        image.file("etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)?;
        image.env("PATH", "/bin:/usr/bin");
        Ok(image)
    }

    /// What a container runs when its pod does not say.
    pub fn entrypoint(&mut self, command: &[&str]) {
        self.entrypoint = command.iter().map(|part| (*part).to_owned()).collect();
    }

    /// A variable.
    pub fn env(&mut self, key: &str, value: &str) {
        self.env.push(format!("{key}={value}"));
    }

    /// A file; `path` is relative to the root.
    ///
    /// # Errors
    /// When the path does not fit a tar header.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.layer.append_data(&mut header, path, content)
    }

    /// A program of this machine with the libraries that it is linked to.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn program(&mut self, path: &str) -> io::Result<()> {
        self.copy(path)?;
        let linked = std::process::Command::new("ldd").arg(path).output()?;
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        let paths = linked.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        paths.collect::<std::collections::BTreeSet<_>>().into_iter().try_for_each(|library| self.copy(library))
    }

    fn copy(&mut self, path: &str) -> io::Result<()> {
        self.file(path.trim_start_matches('/'), &fs::read(path)?, 0o755)
    }

    fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.layer.append_data(&mut header(EntryType::Directory, mode), path, io::empty())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.layer.append_link(&mut header(EntryType::Symlink, 0o777), path, target)
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(self, path: &Path) -> io::Result<()> {
        let layer = self.layer.into_inner()?;
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": self.env},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
            "history": [{"created_by": "testkit"}],
        });
        let config = config.to_string().into_bytes();
        let config_name = format!("{}.json", hex(&config));
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}]).to_string();
        let mut archive = Builder::new(io::BufWriter::new(fs::File::create(path)?));
        let parts =
            [(config_name.as_str(), config.as_slice()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())];
        for (name, content) in parts {
            let mut header = header(EntryType::Regular, 0o644);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content)?;
        }
        archive.into_inner()?.flush()
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
