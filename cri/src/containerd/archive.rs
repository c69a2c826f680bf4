//! Image archives: where in a tar file the blobs are, and which images they make. OCI layouts and docker's form.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Manifests and configurations are small; a larger one is refused instead of read.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;

/// A piece of content to store, with the references that keep its children alive.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub digest: String,
    pub size: u64,
    pub source: Source,
    /// Digests this one refers to; order matters to nobody.
    pub references: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    /// At this offset of the archive.
    Archive {
        offset: u64,
    },
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(super) struct Image {
    pub names: Vec<String>,
    pub media_type: String,
    pub digest: String,
    pub size: u64,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Children before parents, so that nothing is stored that refers to what is missing.
    pub blobs: Vec<Blob>,
    pub images: Vec<Image>,
}

struct Entry {
    offset: u64,
    size: u64,
}

struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

/// Reads the directory of the archive at `path`. Blocking.
pub(super) fn open(path: &Path) -> Result<Contents, Error> {
    let mut archive = Archive::scan(path)?;
    if archive.entries.contains_key("oci-layout") && archive.entries.contains_key("index.json") {
        return archive.oci();
    }
    if archive.entries.contains_key("manifest.json") {
        return archive.docker();
    }
    Err(Error::Archive("neither an OCI layout nor a docker archive".into()))
}

impl Archive {
    fn scan(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::io(format!("read image archive {}", path.display()), source);
        let file = File::open(path).map_err(failed)?;
        let mut entries = HashMap::new();
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(BufReader::new(&file));
        for entry in tar.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = clean(&entry.path().map_err(failed)?.to_string_lossy());
            if let Some(target) = entry.link_name().map_err(failed)? {
                links.push((name, target.to_string_lossy().into_owned()));
                continue;
            }
            entries.insert(name, Entry { offset: entry.raw_file_position(), size: entry.size() });
        }
        // Docker writes a repeated layer as a link to the first.
        for (name, target) in links {
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            let target = clean(&format!("{parent}/{target}"));
            if let Some(entry) = entries.get(&target) {
                let entry = Entry { offset: entry.offset, size: entry.size };
                entries.insert(name, entry);
            }
        }
        Ok(Self { file, entries })
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.entries.get(name).ok_or_else(|| Error::Archive(format!("{name} is missing")))
    }

    fn document(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let (offset, size) = self.entry(name).map(|e| (e.offset, e.size))?;
        if size > MAX_DOCUMENT_BYTES {
            return Err(Error::Archive(format!("{name} has {size} bytes, more than {MAX_DOCUMENT_BYTES}")));
        }
        let mut bytes = Vec::new();
        self.reader(offset, size)
            .and_then(|mut reader| reader.read_to_end(&mut bytes))
            .map_err(|source| Error::io(format!("read {name} of the image archive"), source))?;
        Ok(bytes)
    }

    fn reader(&mut self, offset: u64, size: u64) -> std::io::Result<impl Read + '_> {
        self.file.seek(SeekFrom::Start(offset))?;
        Ok((&self.file).take(size))
    }

    fn json(&mut self, name: &str) -> Result<Value, Error> {
        let bytes = self.document(name)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Archive(format!("{name}: {e}")))
    }

    fn oci(&mut self) -> Result<Contents, Error> {
        let index = self.json("index.json")?;
        let mut contents = Contents::default();
        for descriptor in array(&index, "manifests") {
            self.oci_tree(descriptor, &mut contents)?;
            contents.images.push(Image {
                names: oci_name(descriptor).into_iter().collect(),
                media_type: text(descriptor, "mediaType"),
                digest: text(descriptor, "digest"),
                size: descriptor["size"].as_u64().unwrap_or_default(),
            });
        }
        Ok(contents)
    }

    /// Collects a descriptor's blob after everything below it. What an index names for other platforms may be absent.
    fn oci_tree(&mut self, descriptor: &Value, contents: &mut Contents) -> Result<(), Error> {
        let digest = text(descriptor, "digest");
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        let media_type = text(descriptor, "mediaType");
        let mut references = Vec::new();
        if is_index(&media_type) || media_type.contains("manifest") {
            let document = self.json(&name)?;
            let children: Vec<Value> = children(&document).cloned().collect();
            for child in children {
                let present =
                    self.entries.contains_key(&format!("blobs/{}", text(&child, "digest").replacen(':', "/", 1)));
                if !present && is_index(&media_type) {
                    continue;
                }
                self.oci_tree(&child, contents)?;
                references.push(text(&child, "digest"));
            }
        }
        let entry = self.entry(&name)?;
        let blob = Blob { digest, size: entry.size, source: Source::Archive { offset: entry.offset }, references };
        contents.blobs.push(blob);
        Ok(())
    }

    fn docker(&mut self) -> Result<Contents, Error> {
        let manifest = self.json("manifest.json")?;
        let mut contents = Contents::default();
        for image in manifest.as_array().into_iter().flatten() {
            let image = self.docker_image(image, &mut contents)?;
            contents.images.push(image);
        }
        Ok(contents)
    }

    /// Docker's archive has no registry manifest: write one from the layers and the configuration.
    fn docker_image(&mut self, image: &Value, contents: &mut Contents) -> Result<Image, Error> {
        let config = self.blob(&text(image, "Config"))?;
        let mut layers = Vec::new();
        let mut references = vec![config.digest.clone()];
        let config_descriptor = json!({"mediaType": DOCKER_CONFIG, "digest": config.digest, "size": config.size});
        contents.blobs.push(config);
        for layer in array(image, "Layers") {
            let name = clean(layer.as_str().unwrap_or_default());
            let blob = self.blob(&name)?;
            let media_type =
                if self.is_gzip(&name)? { format!("{DOCKER_LAYER}.gzip") } else { DOCKER_LAYER.to_owned() };
            layers.push(json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size}));
            references.push(blob.digest.clone());
            contents.blobs.push(blob);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config_descriptor, "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = digest_of(&bytes);
        let size = bytes.len() as u64;
        contents.blobs.push(Blob { digest: digest.clone(), size, source: Source::Bytes(bytes), references });
        let names = array(image, "RepoTags").filter_map(|tag| tag.as_str().map(normalize)).collect();
        Ok(Image { names, media_type: DOCKER_MANIFEST.into(), digest, size })
    }

    fn blob(&mut self, name: &str) -> Result<Blob, Error> {
        let (offset, size) = self.entry(name).map(|e| (e.offset, e.size))?;
        let failed = |source| Error::io(format!("read {name} of the image archive"), source);
        let mut hasher = Sha256::new();
        let mut reader = self.reader(offset, size).map_err(failed)?;
        std::io::copy(&mut reader, &mut hasher).map_err(failed)?;
        let digest = format!("sha256:{}", hex(&hasher.finalize()));
        Ok(Blob { digest, size, source: Source::Archive { offset }, references: Vec::new() })
    }

    fn is_gzip(&mut self, name: &str) -> Result<bool, Error> {
        let (offset, size) = self.entry(name).map(|e| (e.offset, e.size))?;
        let mut magic = Vec::new();
        self.reader(offset, size.min(2))
            .and_then(|mut reader| reader.read_to_end(&mut magic))
            .map_err(|source| Error::io(format!("read {name} of the image archive"), source))?;
        Ok(magic == [0x1f, 0x8b])
    }
}

fn children(document: &Value) -> impl Iterator<Item = &Value> {
    let config = document.get("config").into_iter();
    config.chain(array(document, "layers")).chain(array(document, "manifests"))
}

pub(super) fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_LIST
}

pub(super) fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// containerd's annotation holds a whole name; OCI's may hold only a tag, which names nothing by itself.
fn oci_name(descriptor: &Value) -> Option<String> {
    let annotations = descriptor.get("annotations")?;
    let whole = annotations.get("io.containerd.image.name").and_then(Value::as_str);
    let reference = annotations.get("org.opencontainers.image.ref.name").and_then(Value::as_str);
    let name = whole.or(reference.filter(|r| r.contains(['/', ':'])))?;
    Some(normalize(name))
}

/// The full form of a docker-style reference: registry, `library/` and tag filled in.
pub(super) fn normalize(name: &str) -> String {
    let (domain, rest) = match name.split_once('/') {
        Some((domain, rest)) if domain.contains(['.', ':']) || domain == "localhost" => (domain, rest.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let tagged = rest.contains('@') || rest.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if tagged { "" } else { ":latest" };
    format!("{domain}/{rest}{tag}")
}

fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
