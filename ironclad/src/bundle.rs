//! The images that the binary carries: itself, and the first process of pods.
//!
//! So pause, DNS and other add-ons are ordinary pods, and a node needs no registry to run them. Both are one layer each,
//! the same bytes for the same executable.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::digest::{self, SHA256};
use serde_json::{Value, json};

/// The image that sandboxes start from, under upstream's name for this release.
pub(crate) const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";

/// The image of add-ons.
pub(crate) const OWN_IMAGE: &str = concat!("ironclad.dev/ironclad:", env!("CARGO_PKG_VERSION"));

/// The first process of pods, compiled by `build.rs`.
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The images, described but not written yet.
pub(crate) struct Bundle {
    images: Vec<Image>,
}

struct Image {
    name: &'static str,
    program: Program,
    layer: Blob,
    config: Blob,
    manifest: Blob,
}

/// The one program of an image.
#[derive(Clone)]
struct Program {
    name: &'static str,
    source: Source,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Bytes(&'static [u8]),
}

/// A blob that is known by its digest; a layer's bytes are produced when they are written.
struct Blob {
    digest: String,
    size: u64,
    bytes: Vec<u8>,
}

impl Bundle {
    /// Describes the image of an executable, and the pods' first process: reads the executable once, for its digest.
    pub(crate) fn of(executable: &Path) -> Result<Self> {
        let own = Program { name: "ironclad", source: Source::File(executable.to_owned()) };
        let pause = Program { name: "pause", source: Source::Bytes(PAUSE) };
        Ok(Self { images: vec![Image::new(OWN_IMAGE, own)?, Image::new(PAUSE_IMAGE, pause)?] })
    }

    /// Names and ids (digests of their configurations) of the images.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.images.iter().map(|image| (image.name, image.config.digest.as_str()))
    }

    /// Writes the OCI archive.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let failed = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(failed)?;
        let mut tar = tar::Builder::new(BufWriter::new(file));
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).with_context(failed)?;
        append(&mut tar, "index.json", self.index().to_string().as_bytes()).with_context(failed)?;
        for image in &self.images {
            image.append_layer(&mut tar).with_context(failed)?;
            for blob in [&image.config, &image.manifest] {
                append(&mut tar, &blob_path(&blob.digest), &blob.bytes).with_context(failed)?;
            }
        }
        tar.into_inner().and_then(|mut out| out.flush()).with_context(failed)
    }

    fn index(&self) -> Value {
        let manifest = |image: &Image| {
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": image.manifest.digest,
                "size": image.manifest.size,
                "annotations": { "io.containerd.image.name": image.name },
            })
        };
        let manifests: Vec<Value> = self.images.iter().map(manifest).collect();
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests })
    }
}

impl Image {
    fn new(name: &'static str, program: Program) -> Result<Self> {
        let mut hasher = Hasher { context: digest::Context::new(&SHA256), size: 0 };
        program.write_layer(&mut hasher)?;
        let layer = Blob { digest: named(hasher.context.finish().as_ref()), size: hasher.size, bytes: Vec::new() };
        let config = Blob::of(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [format!("/{}", program.name)],
                "Env": ["PATH=/"],
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        }));
        let manifest = Blob::of(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest,
                "size": config.size,
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.digest,
                "size": layer.size,
            }],
        }));
        Ok(Self { name, program, layer, config, manifest })
    }

    /// The entry's data is itself a tar, streamed through a pipe of this process.
    fn append_layer(&self, tar: &mut tar::Builder<impl Write>) -> Result<()> {
        let (reader, writer) = io::pipe()?;
        let program = self.program.clone();
        let producer = std::thread::spawn(move || program.write_layer(BufWriter::with_capacity(1 << 20, writer)));
        let mut header = header(self.layer.size, 0o444, tar::EntryType::Regular);
        tar.append_data(&mut header, blob_path(&self.layer.digest), reader)?;
        producer.join().expect("the layer's writer does not panic")
    }
}

impl Blob {
    fn of(document: &Value) -> Self {
        let bytes = document.to_string().into_bytes();
        let digest = named(digest::digest(&SHA256, &bytes).as_ref());
        Self { digest, size: bytes.len() as u64, bytes }
    }
}

impl Program {
    /// The layer: the program, and a place for temporary files.
    fn write_layer(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        match &self.source {
            Source::Bytes(bytes) => {
                let mut entry = header(bytes.len() as u64, 0o755, tar::EntryType::Regular);
                tar.append_data(&mut entry, self.name, *bytes)?;
            }
            Source::File(path) => {
                let failed = || format!("cannot read {}", path.display());
                let file = File::open(path).with_context(failed)?;
                let size = file.metadata().with_context(failed)?.len();
                let mut entry = header(size, 0o755, tar::EntryType::Regular);
                let data = BufReader::with_capacity(1 << 20, file).take(size);
                tar.append_data(&mut entry, self.name, data).with_context(failed)?;
            }
        }
        let mut entry = header(0, 0o1777, tar::EntryType::Directory);
        tar.append_data(&mut entry, "tmp/", io::empty())?;
        Ok(tar.into_inner().and_then(|mut out| out.flush())?)
    }
}

fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(bytes.len() as u64, 0o444, tar::EntryType::Regular);
    tar.append_data(&mut header, path, bytes)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn named(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Hasher {
    context: digest::Context,
    size: u64,
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.context.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_what_its_digests_say() {
        let directory = tempfile::tempdir().unwrap();
        let executable = directory.path().join("exe");
        std::fs::write(&executable, vec![7; 100_000]).unwrap();
        let bundle = Bundle::of(&executable).unwrap();
        let archive = directory.path().join("archive.tar");
        bundle.write(&archive).unwrap();

        let mut blobs = 0;
        let mut tar = tar::Archive::new(File::open(&archive).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(expected) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(named(digest::digest(&SHA256, &bytes).as_ref()), format!("sha256:{expected}"));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 6);
        let again = Bundle::of(&executable).unwrap();
        assert!(again.images().eq(bundle.images()), "the same executable makes the same image");
    }
}
