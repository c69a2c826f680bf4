//! Images as Debian's `docker-registry` keeps them on disk, so that it serves them without a push.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::{Finished, hex};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the images below `root`, each under all of its names without their registry's host.
///
/// # Errors
/// When a file cannot be written.
pub fn publish(images: &[Finished], root: &Path) -> io::Result<()> {
    let store = root.join("docker/registry/v2");
    for image in images {
        let config = image.config();
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| described(LAYER, &layer.digest, layer.content.len())).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, &hex(&config), config.len()),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let blobs = image.layers.iter().map(|layer| (layer.digest.clone(), layer.content.as_slice()));
        let blobs: Vec<(String, &[u8])> = blobs.chain([(hex(&config), config.as_slice())]).collect();
        for (digest, content) in blobs.iter().chain([&(hex(&manifest), manifest.as_slice())]) {
            blob(&store, digest, content)?;
        }
        let digests: Vec<&str> = blobs.iter().map(|(digest, _)| digest.as_str()).collect();
        image.names.iter().try_for_each(|name| repository(&store, name, &digests, &hex(&manifest)))?;
    }
    Ok(())
}

fn described(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn blob(store: &Path, digest: &str, content: &[u8]) -> io::Result<()> {
    let folder = store.join("blobs/sha256").join(&digest[..2]).join(digest);
    if folder.join("data").exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("data"), content)
}

/// What a name has: its blobs, its manifest, and its tag.
fn repository(store: &Path, name: &str, blobs: &[&str], manifest: &str) -> io::Result<()> {
    let path = name.split_once('/').map_or(name, |(_, path)| path);
    let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let folder = store.join("repositories").join(path);
    for digest in blobs {
        link(&folder.join("_layers/sha256").join(digest), digest)?;
    }
    let tag = folder.join("_manifests/tags").join(tag);
    link(&folder.join("_manifests/revisions/sha256").join(manifest), manifest)?;
    link(&tag.join("index/sha256").join(manifest), manifest)?;
    link(&tag.join("current"), manifest)
}

fn link(folder: &Path, digest: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("link"), format!("sha256:{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    #[test]
    fn names_lead_to_manifests_and_these_to_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = Image::new("registry.example/a/b:1");
        image.file("f", b"x", 0o644).unwrap();
        publish(&[image.finish().unwrap()], folder.path()).unwrap();
        let store = folder.path().join("docker/registry/v2");
        let repository = store.join("repositories/a/b");
        let digest = fs::read_to_string(repository.join("_manifests/tags/1/current/link")).unwrap();
        let data = |digest: &str| {
            let digest = digest.strip_prefix("sha256:").unwrap();
            fs::read(store.join("blobs/sha256").join(&digest[..2]).join(digest).join("data")).unwrap()
        };
        let manifest: Value = serde_json::from_slice(&data(&digest)).unwrap();
        for described in [&manifest["config"], &manifest["layers"][0]] {
            let digest = described["digest"].as_str().unwrap();
            let content = data(digest);
            assert_eq!(described["size"], content.len());
            assert_eq!(format!("sha256:{}", hex(&content)), digest);
            assert!(repository.join("_layers/sha256").join(&digest[7..]).join("link").exists());
        }
    }
}
