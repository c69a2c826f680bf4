//! Images made of files, in the form of `docker save`, for `ironclad image load`.

mod registry;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

pub use registry::publish;

/// Debian's statically linked busybox.
const BUSYBOX: &str = "/bin/busybox";

/// An image: the layers of the one that it is based on, and one of its own.
pub struct Image {
    names: Vec<String>,
    base: Vec<Arc<Layer>>,
    layer: Builder<Vec<u8>>,
    /// What the own layer holds, so that a library that two programs share is in it once.
    files: BTreeSet<String>,
    settings: Settings,
}

/// What a container gets when its pod does not say.
#[derive(Clone, Default)]
struct Settings {
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    directory: String,
}

/// A finished layer.
struct Layer {
    digest: String,
    content: Vec<u8>,
}

/// A finished image, which others can be based on.
pub struct Finished {
    names: Vec<String>,
    layers: Vec<Arc<Layer>>,
    settings: Settings,
}

impl Image {
    /// An image without files. `name` has a tag.
    pub fn new(name: &str) -> Self {
        Self {
            names: vec![name.to_owned()],
            base: Vec::new(),
            layer: Builder::new(Vec::new()),
            files: BTreeSet::new(),
            settings: Settings::default(),
        }
    }

    /// An image that adds to another.
    pub fn based_on(name: &str, base: &Finished) -> Self {
        Self { base: base.layers.clone(), settings: base.settings.clone(), ..Self::new(name) }
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

    /// One more name, with a tag.
    pub fn name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// What a container runs when its pod does not say.
    pub fn entrypoint(&mut self, command: &[impl AsRef<str>]) {
        self.settings.entrypoint = owned(command);
    }

    /// The arguments of the entry point when the pod does not say.
    pub fn command(&mut self, arguments: &[impl AsRef<str>]) {
        self.settings.command = owned(arguments);
    }

    /// The user that containers run as.
    pub fn user(&mut self, user: &str) {
        user.clone_into(&mut self.settings.user);
    }

    /// The folder that containers start in.
    pub fn directory(&mut self, directory: &str) {
        directory.clone_into(&mut self.settings.directory);
    }

    /// A variable, instead of one of that name.
    pub fn env(&mut self, key: &str, value: &str) {
        self.settings.env.retain(|set| set.split('=').next() != Some(key));
        self.settings.env.push(format!("{key}={value}"));
    }

    /// A file; `path` is relative to the root.
    ///
    /// # Errors
    /// When the path does not fit a tar header.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        if !self.files.insert(path.to_owned()) {
            return Ok(());
        }
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
        paths.collect::<BTreeSet<_>>().into_iter().try_for_each(|library| self.copy(library))
    }

    fn copy(&mut self, path: &str) -> io::Result<()> {
        self.file(path.trim_start_matches('/'), &fs::read(path)?, 0o755)
    }

    /// A folder; `path` is relative to the root.
    ///
    /// # Errors
    /// When the path does not fit a tar header.
    pub fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.layer.append_data(&mut header(EntryType::Directory, mode), path, io::empty())
    }

    /// A symbolic link; `path` is relative to the root.
    ///
    /// # Errors
    /// When a path does not fit a tar header.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.layer.append_link(&mut header(EntryType::Symlink, 0o777), path, target)
    }

    /// Ends the image's own layer.
    ///
    /// # Errors
    /// When the layer cannot be ended.
    pub fn finish(self) -> io::Result<Finished> {
        let content = self.layer.into_inner()?;
        let mut layers = self.base;
        layers.push(Arc::new(Layer { digest: hex(&content), content }));
        Ok(Finished { names: self.names, layers, settings: self.settings })
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(self, path: &Path) -> io::Result<()> {
        save(&[self.finish()?], path)
    }
}

impl Finished {
    /// The names, with tags.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn config(&self) -> Vec<u8> {
        let Settings { entrypoint, command, env, user, directory } = &self.settings;
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
        let history: Vec<Value> = diff_ids.iter().map(|_| json!({"created_by": "testkit"})).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {
                "Entrypoint": entrypoint, "Cmd": command, "Env": env, "User": user, "WorkingDir": directory,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        config.to_string().into_bytes()
    }
}

/// Writes several images to one archive, each layer once.
///
/// # Errors
/// When the file cannot be written.
pub fn save(images: &[Finished], path: &Path) -> io::Result<()> {
    let mut archive = Builder::new(io::BufWriter::new(fs::File::create(path)?));
    let mut put = |name: &str, content: &[u8]| {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content)
    };
    let mut written = BTreeSet::new();
    let mut manifest = Vec::new();
    for image in images {
        let config = image.config();
        let config_name = format!("{}.json", hex(&config));
        put(&config_name, &config)?;
        let file = |layer: &Layer| format!("{}.tar", layer.digest);
        for layer in image.layers.iter().filter(|layer| written.insert(layer.digest.clone())) {
            put(&file(layer), &layer.content)?;
        }
        let layers: Vec<String> = image.layers.iter().map(|layer| file(layer)).collect();
        manifest.push(json!({"Config": config_name, "RepoTags": image.names, "Layers": layers}));
    }
    put("manifest.json", Value::from(manifest).to_string().as_bytes())?;
    archive.into_inner()?.flush()
}

fn owned(words: &[impl AsRef<str>]) -> Vec<String> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
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
