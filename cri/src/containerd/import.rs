//! Importing an image archive into CRI's namespace: blobs, then the image's names.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{CreateImageRequest, Image as ImageRecord, UpdateImageRequest};
use containerd_client::types::Descriptor;
use tonic::Code;

use super::archive::{self, Contents, Image, normalize};
use super::content::Store;
use super::lease::{Lease, Purpose};
use super::{Containerd, namespaced};
use crate::{Error, Runtime};

/// CRI learns of a new image through an event: wait this long for it.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
const VISIBLE_POLL: Duration = Duration::from_millis(20);

pub(super) async fn import(containerd: &Containerd, path: &Path, name: Option<&str>) -> Result<Vec<String>, Error> {
    let owned = path.to_owned();
    let contents = tokio::task::spawn_blocking(move || archive::open(&owned))
        .await
        .map_err(|join| Error::Archive(join.to_string()))??;
    let lease = Lease::create(containerd, Purpose::Import).await?;
    let outcome = store(containerd, path, name, &contents, &lease).await;
    lease.delete(containerd).await;
    outcome
}

async fn store(
    containerd: &Containerd,
    path: &Path,
    name: Option<&str>,
    contents: &Contents,
    lease: &Lease,
) -> Result<Vec<String>, Error> {
    let mut content = Store::new(containerd.channel(), lease.clone());
    for blob in &contents.blobs {
        content.put(blob, path).await?;
    }
    let mut names = Vec::new();
    for image in &contents.images {
        let own = name.map(|name| vec![normalize(name)]);
        for name in own.unwrap_or_else(|| image.names.clone()) {
            record(containerd, image, &name).await?;
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Error::Archive("no image has a name: give one".into()));
    }
    for name in &names {
        wait_visible(containerd, name).await?;
    }
    Ok(names)
}

async fn record(containerd: &Containerd, image: &Image, name: &str) -> Result<(), Error> {
    let record = ImageRecord {
        name: name.to_owned(),
        labels: HashMap::from([("io.cri-containerd.image".to_owned(), "managed".to_owned())]),
        target: Some(Descriptor {
            media_type: image.media_type.clone(),
            digest: image.digest.clone(),
            size: i64::try_from(image.size).unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut images = ImagesClient::new(containerd.channel());
    let create = CreateImageRequest { image: Some(record.clone()), source_date_epoch: None };
    match images.create(namespaced(create)).await {
        Ok(_) => return Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => return Err(Error::rpc("create image", &status)),
    }
    let update = UpdateImageRequest { image: Some(record), update_mask: None, source_date_epoch: None };
    let answer = images.update(namespaced(update)).await;
    answer.map(drop).map_err(|status| Error::rpc("update image", &status))
}

async fn wait_visible(containerd: &Containerd, name: &str) -> Result<(), Error> {
    let visible = async {
        while containerd.image_status(name).await?.is_none() {
            tokio::time::sleep(VISIBLE_POLL).await;
        }
        Ok(())
    };
    let late = |_| Error::Archive(format!("the runtime did not pick up {name} within {VISIBLE_WITHIN:?}"));
    tokio::time::timeout(VISIBLE_WITHIN, visible).await.map_err(late)?
}
