//! One watch of etcd over everything that is stored, and how far it is complete.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{EventType, KeyValue, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};
use tokio::time::timeout;

use super::failure::Failure;
use super::members::{Member, Members, SILENCE_MAX};
use super::options::{Layout, range_end};
use crate::contract::{Entry, Error, Event};
use crate::key::Key;
use crate::watch::Batch;

/// A running watch on one member.
pub(super) struct Feed {
    layout: Layout,
    /// The member's place among the members.
    pub(super) member: usize,
    /// Whether the member can be asked how far it is. Otherwise every key is watched, so that every revision shows.
    tells_progress: bool,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    /// Everything up to here has been handed out.
    complete: u64,
}

impl Feed {
    /// Everything after the revision `after`, from the member that is asked now.
    pub(super) async fn open(members: &Members, layout: &Layout, after: u64) -> Result<Self, Failure> {
        let (at, member) = members.current();
        let failure = match timeout(SILENCE_MAX, Self::open_at(&member, layout, after)).await {
            Ok(Ok(feed)) => {
                members.signs().heard(at);
                return Ok(Self { member: at, ..feed });
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::Unknown(format!("etcd member {} does not answer", member.url()).into()),
        };
        members.leave(at);
        Err(failure)
    }

    async fn open_at(member: &Member, layout: &Layout, after: u64) -> Result<Self, etcd_client::Error> {
        let tells_progress = tells_progress(member.maintenance().status().await?.version());
        let start = i64::try_from(after + 1).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_prev_key().with_start_revision(start);
        let all = layout.all();
        let (key, options) = if tells_progress {
            (all.clone(), options.with_range(range_end(&all)))
        } else {
            (String::new(), options.with_all_keys())
        };
        let (requests, responses) = member.watch().watch(key, Some(options)).await?.split();
        tracing::debug!(member = member.url(), after, tells_progress, "watching etcd");
        Ok(Self { layout: layout.clone(), member: 0, tells_progress, requests, responses, complete: after })
    }

    /// Waits for events or progress. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let lost = |failure: Failure| failure.into_error("watch");
            let response = self.responses.message().await.map_err(|error| lost(Failure::of(&error)))?;
            let Some(response) = response else {
                return Err(lost(Failure::Unknown("etcd ended the watch".into())));
            };
            if response.canceled() {
                return Err(self.canceled(&response));
            }
            if let Some(batch) = self.batch(&response) {
                self.complete = batch.revision;
                return Ok(batch);
            }
        }
    }

    /// Has the member say how far it is, if it can.
    pub(super) async fn ask_progress(&mut self) -> Result<(), Error> {
        if !self.tells_progress {
            return Ok(());
        }
        let asked = self.requests.request_progress().await;
        asked.map_err(|error| Failure::of(&error).into_error("watch"))
    }

    fn canceled(&self, response: &WatchResponse) -> Error {
        match u64::try_from(response.compact_revision()) {
            Ok(oldest) if oldest > 0 => Error::Compacted { requested: self.complete, oldest },
            _ => Error::Unavailable { operation: "watch", reason: response.cancel_reason().into() },
        }
    }

    /// None when nothing new is known.
    fn batch(&self, response: &WatchResponse) -> Option<Batch> {
        let events = response.events();
        let Some(last) = events.last() else {
            // That a watch was made says nothing of the past that it was made for; progress does.
            let header = response.header().filter(|_| !response.created())?;
            let revision = revision(header.revision()).max(self.complete);
            return (revision > self.complete).then(|| Batch { events: Vec::new(), revision });
        };
        // A response holds all events of a revision, but not all up to its header's revision.
        let complete = last.kv().map_or(0, |kv| revision(kv.mod_revision())).max(self.complete);
        let wanted = events.iter().filter_map(|event| self.event(event)).map(Arc::new).collect();
        Some(Batch { events: wanted, revision: complete })
    }

    /// None when somebody else's key was changed.
    fn event(&self, event: &etcd_client::Event) -> Option<Event> {
        let kv = event.kv()?;
        let key = self.layout.key(kv.key())?;
        let entry = |kv: &KeyValue| Arc::new(entry(kv, key.clone()));
        Some(Event {
            revision: revision(kv.mod_revision()),
            current: (event.event_type() == EventType::Put).then(|| entry(kv)),
            previous: event.prev_kv().map(entry),
            key,
        })
    }
}

fn entry(kv: &KeyValue, key: Key) -> Entry {
    Entry {
        key,
        value: Bytes::copy_from_slice(kv.value()),
        create_revision: revision(kv.create_revision()),
        mod_revision: revision(kv.mod_revision()),
        version: revision(kv.version()),
        lease: kv.lease(),
    }
}

/// etcd's revisions are signed and never negative.
pub(super) fn revision(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// Whether a member of this version may be asked for progress on a watch: earlier ones may answer with a revision
/// whose events they have not sent yet (etcd's issues 15220 and 17507).
fn tells_progress(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        version => version >= (3, 6, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_believed_from_the_versions_on_that_tell_the_truth() {
        for version in ["3.4.31", "3.5.13", "3.6.0", "3.7.3", "3.6.0-rc.1", "4.0.0"] {
            assert!(tells_progress(version), "{version}");
        }
        for version in ["3.4.23", "3.4.30", "3.5.0", "3.5.12", "3.3.40", "", "x"] {
            assert!(!tells_progress(version), "{version}");
        }
    }
}
