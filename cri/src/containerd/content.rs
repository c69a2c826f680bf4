//! Writing blobs into containerd's content store, and reading small ones.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::Path;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use prost_types::FieldMask;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::archive::{Blob, MAX_DOCUMENT_BYTES, Source};
use super::lease::Lease;
use crate::Error;

/// One message of a write; well below gRPC's 4 MiB default.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks in flight between the reader of the archive and the connection.
const QUEUED_CHUNKS: usize = 2;

pub(super) struct Store {
    client: ContentClient<Channel>,
    lease: Lease,
}

impl Store {
    /// Everything written is kept by `lease` until something else refers to it.
    pub(super) fn new(channel: Channel, lease: Lease) -> Self {
        Self { client: ContentClient::new(channel), lease }
    }

    /// A manifest or configuration.
    pub(super) async fn document(&mut self, digest: &str) -> Result<serde_json::Value, Error> {
        let failed = |status: tonic::Status| Error::rpc("read content", &status);
        let read = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut parts = self.client.read(self.lease.request(read)?).await.map_err(failed)?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await.map_err(failed)? {
            bytes.extend(part.data);
            if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
                return Err(Error::Archive(format!("{digest} has more than {MAX_DOCUMENT_BYTES} bytes")));
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| Error::Archive(format!("{digest}: {error}")))
    }

    /// Stores a blob unless it is there, and sets the labels that keep what it refers to.
    pub(super) async fn put(&mut self, blob: &Blob, archive: &Path) -> Result<(), Error> {
        let labels = reference_labels(&blob.references);
        let info = self.lease.request(InfoRequest { digest: blob.digest.clone() })?;
        if self.client.info(info).await.is_ok() {
            return self.label(&blob.digest, labels).await;
        }
        let written = self.write(blob, labels.clone(), archive).await;
        match written {
            Err(Error::Rpc { code: Code::AlreadyExists, .. }) => self.label(&blob.digest, labels).await,
            other => other,
        }
    }

    /// Adds labels to a blob that is there.
    pub(super) async fn label(&mut self, digest: &str, labels: HashMap<String, String>) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info { digest: digest.to_owned(), labels, ..Default::default() };
        let update = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        let answer = self.client.update(self.lease.request(update)?).await;
        answer.map(drop).map_err(|status| Error::rpc("label content", &status))
    }

    async fn write(&mut self, blob: &Blob, labels: HashMap<String, String>, archive: &Path) -> Result<(), Error> {
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUED_CHUNKS);
        let request = self.lease.request(ReceiverStream::new(receiver))?;
        let feed = feed(sender, blob, labels, archive);
        let call = async {
            let mut answers = self.client.write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        let (fed, called) = tokio::join!(feed, call);
        called.map_err(|status: tonic::Status| Error::rpc("write content", &status))?;
        fed
    }
}

type Sender = tokio::sync::mpsc::Sender<WriteContentRequest>;

/// Sends the blob in chunks; the commit says how large and what it has to hash to.
async fn feed(sender: Sender, blob: &Blob, labels: HashMap<String, String>, archive: &Path) -> Result<(), Error> {
    let failed = |source| Error::io(format!("read {} of the image archive", blob.digest), source);
    let total = i64::try_from(blob.size).unwrap_or(i64::MAX);
    let message = |action: WriteAction, offset: i64, data: Vec<u8>| WriteContentRequest {
        action: action as i32,
        r#ref: format!("import-{}", blob.digest),
        total,
        expected: blob.digest.clone(),
        offset,
        data,
        labels: HashMap::new(),
    };
    let mut reader = open(&blob.source, blob.size, archive).await.map_err(failed)?;
    let mut offset = 0;
    loop {
        let mut data = Vec::new();
        (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut data).await.map_err(failed)?;
        if data.is_empty() {
            break;
        }
        let read = i64::try_from(data.len()).unwrap_or_default();
        // A closed channel means the call has failed: its error is the one to report.
        if sender.send(message(WriteAction::Write, offset, data)).await.is_err() {
            return Ok(());
        }
        offset += read;
    }
    let commit = WriteContentRequest { labels, ..message(WriteAction::Commit, offset, Vec::new()) };
    let _ = sender.send(commit).await;
    Ok(())
}

async fn open(source: &Source, size: u64, archive: &Path) -> std::io::Result<crate::ByteReader> {
    match source {
        Source::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
        Source::Archive { offset } => {
            let mut file = tokio::fs::File::open(archive).await?;
            file.seek(SeekFrom::Start(*offset)).await?;
            Ok(Box::new(file.take(size)))
        }
    }
}

fn reference_labels(references: &[String]) -> HashMap<String, String> {
    let numbered = references.iter().enumerate();
    numbered.map(|(n, digest)| (format!("containerd.io/gc.ref.content.{n}"), digest.clone())).collect()
}
