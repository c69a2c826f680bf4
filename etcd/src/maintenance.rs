//! What operators ask: status, alarms, hashes, snapshots.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use rand::Rng as _;
use store::{EmbeddedStore, Error, KeyRange, Store as _, View};
use tonic::Status;

use crate::Server;
use crate::cluster::{MEMBER_ID, RAFT_TERM, header, header_now};
use crate::errors;
use crate::proto::{
    ALARM_NO_SPACE, AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest,
    HashKvResponse, HashRequest, HashResponse, SnapshotResponse, StatusResponse,
};
use crate::route::Answers;

/// The release of etcd whose API this is: clients decide by it what they may ask for.
pub(crate) const VERSION: &str = "3.6.0";

/// The version of etcd's storage that this release has.
const STORAGE_VERSION: &str = "3.6.0";

/// A snapshot is sent in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

pub(crate) async fn status(server: &Server) -> StatusResponse {
    let view = server.store.latest();
    let errors = server.store.health().await.err().map(|error| error.to_string());
    StatusResponse {
        header: header(view.revision()),
        version: VERSION.to_owned(),
        db_size: signed(directory_bytes(&server.data_dir)),
        leader: MEMBER_ID,
        raft_index: view.revision(),
        raft_term: RAFT_TERM,
        raft_applied_index: view.revision(),
        errors: errors.into_iter().collect(),
        db_size_in_use: signed(live_bytes(&view)),
        is_learner: false,
        storage_version: STORAGE_VERSION.to_owned(),
    }
}

/// The one alarm there is: no space. It goes when there is space again, and by nothing else.
pub(crate) async fn alarm(server: &Server, _call: AlarmRequest) -> AlarmResponse {
    let full = matches!(server.store.health().await, Err(Error::Full));
    let alarm = AlarmMember { member_id: MEMBER_ID, alarm: ALARM_NO_SPACE };
    AlarmResponse { header: header_now(server), alarms: full.then_some(alarm).into_iter().collect() }
}

/// There is nothing to do: snapshots of the store are written without holes, and the log before them goes.
pub(crate) fn defragment(server: &Server, _call: DefragmentRequest) -> DefragmentResponse {
    DefragmentResponse { header: header_now(server) }
}

pub(crate) async fn hash(server: &Server, _call: HashRequest) -> Result<HashResponse, Status> {
    let hashed = |store: &EmbeddedStore| {
        let view = store.latest();
        HashResponse { header: header(view.revision()), hash: hash_of(&view) }
    };
    server.apart(hashed).await
}

pub(crate) async fn hash_kv(server: &Server, call: HashKvRequest) -> Result<HashKvResponse, Status> {
    let revision = u64::try_from(call.revision).ok().filter(|revision| *revision > 0);
    let hashed = move |store: &EmbeddedStore| {
        let view = store.view(&everything(), revision).map_err(|error| errors::status(&error))?;
        Ok(HashKvResponse {
            header: header(view.revision()),
            hash: hash_of(&view),
            compact_revision: signed(view.compacted()),
            hash_revision: signed(revision.unwrap_or(view.revision())),
        })
    };
    server.apart(hashed).await?
}

/// Sends a backup, as `ironclad restore` takes it.
pub(crate) async fn snapshot(server: Arc<Server>) -> Result<Answers<SnapshotResponse>, Status> {
    let place = server.sending.clone().try_acquire_owned().map_err(|_| Status::from(errors::TOO_MANY_REQUESTS))?;
    let backup = server.store.backup().await.map_err(|error| errors::status(&error))?;
    let header = header(backup.revision());
    let written = tokio::task::spawn_blocking(move || {
        let mut file = nameless(&server.data_dir)?;
        backup.write(&mut std::io::BufWriter::with_capacity(1 << 20, &file))?;
        let bytes = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        Ok::<_, std::io::Error>((file, bytes))
    });
    let failed = |error: &dyn std::fmt::Display| Status::internal(format!("cannot write the snapshot: {error}"));
    let (file, bytes) = written.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let pieces = stream::try_unfold((file, bytes, place), move |(mut file, left, place)| {
        let header = header.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let mut piece = vec![0; length];
            // The file was just written, so this does not wait for a disk.
            file.read_exact(&mut piece).map_err(|error| Status::internal(error.to_string()))?;
            let left = left - length as u64;
            let (blob, version) = (Bytes::from(piece), STORAGE_VERSION.to_owned());
            Ok(Some((SnapshotResponse { header, remaining_bytes: left, blob, version }, (file, left, place))))
        }
    });
    Ok(Box::pin(pieces))
}

/// A file that only its owner may read, and that is gone when it is closed.
fn nameless(dir: &Path) -> std::io::Result<File> {
    let path = dir.join(format!("sending-{:016x}", rand::rng().random::<u64>()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Why this member is not healthy, if it is not.
pub(crate) fn failure(server: &Server) -> Option<String> {
    use futures::FutureExt as _;
    let health = server.store.health().now_or_never().unwrap_or(Ok(()));
    health.err().map(|error| error.to_string())
}

/// Under etcd's names, where there is one.
pub(crate) fn metrics(server: &Server) -> String {
    let counters = server.store.counters();
    let view = server.store.latest();
    let mut text = String::new();
    let mut line = |name: &str, kind: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
    };
    line("etcd_server_has_leader", "gauge", 1);
    line("etcd_server_is_leader", "gauge", 1);
    line("etcd_debugging_mvcc_current_revision", "gauge", view.revision());
    line("etcd_debugging_mvcc_compact_revision", "gauge", view.compacted());
    line("etcd_debugging_mvcc_keys_total", "gauge", view.len() as u64);
    line("etcd_mvcc_db_total_size_in_bytes", "gauge", directory_bytes(&server.data_dir));
    line("ironclad_store_commits_total", "counter", counters.commits.get());
    line("ironclad_store_batches_total", "counter", counters.batches.get());
    line("ironclad_store_history_bytes", "gauge", counters.history_bytes.get());
    line("ironclad_store_full", "gauge", counters.full.get());
    line("ironclad_store_read_only", "gauge", counters.read_only.get());
    text
}

fn everything() -> KeyRange {
    KeyRange::new(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

fn hash_of(view: &View) -> u32 {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for entry in view.range(&everything()) {
        hash.update(entry.key.as_str());
        hash.update(entry.mod_revision.to_le_bytes());
        hash.update(&entry.value);
    }
    let digest = hash.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn live_bytes(view: &View) -> u64 {
    view.range(&everything()).map(|entry| (entry.key.as_str().len() + entry.value.len()) as u64).sum()
}

fn directory_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
