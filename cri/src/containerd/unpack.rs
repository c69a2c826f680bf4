//! Laying an image's layers out as snapshots: what a pull does at once, and an import leaves to whoever needs it first.

use std::collections::HashMap;

use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::services::v1::{ApplyRequest, GetImageRequest};
use containerd_client::types::{Descriptor, Mount};
use serde_json::Value;
use tonic::Code;
use tonic::transport::Channel;

use super::archive::{array, digest_of, is_index, text};
use super::content::Store;
use super::lease::{Lease, Purpose};
use super::{Containerd, namespaced};
use crate::Error;

/// An image as CRI knows it.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The digest of its configuration.
    pub id: String,
    /// What containerd may know it by.
    pub names: Vec<String>,
}

/// Makes the snapshots of all layers that are missing.
pub(super) async fn unpack(containerd: &Containerd, image: &Image, snapshotter: &str) -> Result<(), Error> {
    let lease = Lease::create(containerd, Purpose::Unpack).await?;
    let mut work = Unpack {
        store: Store::new(containerd.channel(), lease.clone()),
        snapshots: SnapshotsClient::new(containerd.channel()),
        diffs: DiffClient::new(containerd.channel()),
        snapshotter,
        lease: lease.clone(),
    };
    let outcome = match target(containerd, image).await {
        Ok(target) => work.image(image, &target).await,
        Err(error) => Err(error),
    };
    lease.delete(containerd).await;
    outcome
}

/// What the first of its names that is known stands for.
async fn target(containerd: &Containerd, image: &Image) -> Result<Descriptor, Error> {
    let mut images = ImagesClient::new(containerd.channel());
    for name in image.names.iter().chain([&image.id]) {
        match images.get(namespaced(GetImageRequest { name: name.clone() })).await {
            Ok(answer) => {
                if let Some(target) = answer.into_inner().image.and_then(|image| image.target) {
                    return Ok(target);
                }
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(Error::rpc("get image", &status)),
        }
    }
    Err(Error::Archive(format!("image {} has no name that containerd knows", image.id)))
}

struct Unpack<'a> {
    store: Store,
    snapshots: SnapshotsClient<Channel>,
    diffs: DiffClient<Channel>,
    snapshotter: &'a str,
    lease: Lease,
}

/// One layer: what it is, and the names of what lies below it and of both together.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    blob: Descriptor,
    /// Digest of its contents when they are not compressed.
    content: String,
    parent: String,
    chain: String,
}

impl Unpack<'_> {
    async fn image(&mut self, image: &Image, target: &Descriptor) -> Result<(), Error> {
        let manifest = self.manifest(image, target).await?;
        let config = self.store.document(&image.id).await?;
        let layers = layers(&manifest, &config)?;
        for layer in &layers {
            self.layer(layer).await?;
        }
        let Some(top) = layers.last() else { return Ok(()) };
        // The snapshots live as long as the image does.
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter);
        self.store.label(&image.id, HashMap::from([(label, top.chain.clone())])).await
    }

    /// The manifest that has the image's configuration. An index has one for each platform.
    async fn manifest(&mut self, image: &Image, target: &Descriptor) -> Result<Value, Error> {
        let document = self.store.document(&target.digest).await?;
        if !is_index(&target.media_type) {
            return Ok(document);
        }
        for child in array(&document, "manifests") {
            // Other platforms' need not be here.
            match self.store.document(&text(child, "digest")).await {
                Ok(manifest) if manifest.pointer("/config/digest").and_then(Value::as_str) == Some(&image.id) => {
                    return Ok(manifest);
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Archive(format!("{} names no manifest of image {}", target.digest, image.id)))
    }

    async fn layer(&mut self, layer: &Layer) -> Result<(), Error> {
        let stat = StatSnapshotRequest { snapshotter: self.snapshotter.to_owned(), key: layer.chain.clone() };
        match self.snapshots.stat(self.lease.request(stat)?).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(Error::rpc("stat snapshot", &status)),
        }
        let key = format!("extract-{} {}", uuid::Uuid::new_v4(), layer.chain);
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.to_owned(),
            key: key.clone(),
            parent: layer.parent.clone(),
            labels: HashMap::new(),
        };
        let prepared = self.snapshots.prepare(self.lease.request(prepare)?).await;
        let mounts = prepared.map_err(|status| Error::rpc("prepare snapshot", &status))?.into_inner().mounts;
        let filled = match self.apply(layer, mounts).await {
            Ok(()) => self.commit(layer, &key).await,
            Err(error) => Err(error),
        };
        if !matches!(filled, Ok(true)) {
            let remove = RemoveSnapshotRequest { snapshotter: self.snapshotter.to_owned(), key };
            // One that stays behind goes with the lease.
            let _ = self.snapshots.remove(self.lease.request(remove)?).await;
        }
        filled.map(drop)
    }

    async fn apply(&mut self, layer: &Layer, mounts: Vec<Mount>) -> Result<(), Error> {
        let apply = ApplyRequest { diff: Some(layer.blob.clone()), mounts, ..Default::default() };
        let applied = self.diffs.apply(self.lease.request(apply)?).await;
        let applied = applied.map_err(|status| Error::rpc("apply layer", &status))?.into_inner().applied;
        let found = applied.map(|applied| applied.digest).unwrap_or_default();
        if found == layer.content {
            return Ok(());
        }
        Err(Error::Archive(format!("layer {} holds {found}, not {}", layer.blob.digest, layer.content)))
    }

    /// False when somebody else has made the same in the meantime.
    async fn commit(&mut self, layer: &Layer, key: &str) -> Result<bool, Error> {
        let commit = CommitSnapshotRequest {
            snapshotter: self.snapshotter.to_owned(),
            name: layer.chain.clone(),
            key: key.to_owned(),
            ..Default::default()
        };
        match self.snapshots.commit(self.lease.request(commit)?).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(Error::rpc("commit snapshot", &status)),
        }
    }
}

/// The layers from the lowest up. A chain's name is made of the one below and the layer's own digest, as the image
/// specification says.
fn layers(manifest: &Value, config: &Value) -> Result<Vec<Layer>, Error> {
    let blobs: Vec<&Value> = array(manifest, "layers").collect();
    let none = Value::Null;
    let contents: Vec<&Value> = array(config.get("rootfs").unwrap_or(&none), "diff_ids").collect();
    if blobs.len() != contents.len() {
        let (blobs, contents) = (blobs.len(), contents.len());
        return Err(Error::Archive(format!("the image has {blobs} layers and names the contents of {contents}")));
    }
    let mut layers: Vec<Layer> = Vec::new();
    for (blob, content) in blobs.into_iter().zip(contents) {
        let content = content.as_str().unwrap_or_default().to_owned();
        let parent = layers.last().map(|below| below.chain.clone()).unwrap_or_default();
        let chain = match parent.as_str() {
            "" => content.clone(),
            parent => digest_of(format!("{parent} {content}").as_bytes()),
        };
        let blob = Descriptor {
            media_type: text(blob, "mediaType"),
            digest: text(blob, "digest"),
            size: blob.get("size").and_then(Value::as_i64).unwrap_or_default(),
            ..Default::default()
        };
        layers.push(Layer { blob, content, parent, chain });
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chains_of_layers() {
        let manifest = json!({"layers": [
            {"mediaType": "m", "digest": "sha256:a", "size": 1}, {"mediaType": "m", "digest": "sha256:b", "size": 2},
            {"mediaType": "m", "digest": "sha256:c", "size": 3}]});
        let config = json!({"rootfs": {"diff_ids": ["sha256:1", "sha256:2", "sha256:3"]}});
        let layers = layers(&manifest, &config).unwrap();
        let second = digest_of(b"sha256:1 sha256:2");
        let third = digest_of(format!("{second} sha256:3").as_bytes());
        let chains: Vec<_> = layers.iter().map(|layer| (layer.parent.as_str(), layer.chain.as_str())).collect();
        assert_eq!(chains, [("", "sha256:1"), ("sha256:1", second.as_str()), (second.as_str(), third.as_str())]);
        assert_eq!((layers[2].blob.digest.as_str(), layers[2].blob.size), ("sha256:c", 3));
    }

    #[test]
    fn layers_without_contents_are_refused() {
        let manifest = json!({"layers": [{"digest": "sha256:a"}]});
        assert!(layers(&manifest, &json!({})).is_err());
        assert!(layers(&json!({}), &json!({"rootfs": {"diff_ids": ["sha256:1"]}})).is_err());
        assert_eq!(layers(&json!({}), &json!({})).unwrap(), []);
    }
}
