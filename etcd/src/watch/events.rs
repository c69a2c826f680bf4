//! What one watch shows of a batch.

use bytes::Bytes;
use prost::Message as _;
use store::{Batch, Event as StoreEvent, KeyRange};

use crate::cluster::header;
use crate::kv::key_value;
use crate::proto::{
    EVENT_DELETE, EVENT_PUT, Event, FILTER_NO_DELETE, FILTER_NO_PUT, KeyValue, WatchCreateRequest, WatchResponse,
};

/// What a client asked to see.
pub(super) struct Selection {
    range: KeyRange,
    puts: bool,
    deletes: bool,
    previous: bool,
    /// Answers larger than this are sent in pieces, if the client can put them together.
    piece_bytes_max: Option<usize>,
}

impl Selection {
    pub(super) fn new(range: KeyRange, call: &WatchCreateRequest, bytes_max: usize) -> Self {
        Self {
            range,
            puts: !call.filters.contains(&FILTER_NO_PUT),
            deletes: !call.filters.contains(&FILTER_NO_DELETE),
            previous: call.prev_kv,
            piece_bytes_max: call.fragment.then_some(bytes_max),
        }
    }

    /// What to send; nothing when nothing in the batch was asked for.
    pub(super) fn answers(&self, watch_id: i64, batch: &Batch) -> Vec<WatchResponse> {
        let wanted = batch.events.iter().filter(|event| self.wants(event));
        let events: Vec<_> = wanted.map(|event| self.shown(event)).collect();
        if events.is_empty() {
            return Vec::new();
        }
        let pieces = match self.piece_bytes_max {
            None => vec![events],
            Some(max) => pieces(events, max),
        };
        let last = pieces.len() - 1;
        let answer = |(at, events)| WatchResponse {
            header: header(batch.revision),
            watch_id,
            fragment: at != last,
            events,
            ..WatchResponse::default()
        };
        pieces.into_iter().enumerate().map(answer).collect()
    }

    fn wants(&self, event: &StoreEvent) -> bool {
        let kind = if event.current.is_some() { self.puts } else { self.deletes };
        kind && self.range.contains(&event.key)
    }

    fn shown(&self, event: &StoreEvent) -> Event {
        let (kind, kv) = match &event.current {
            Some(entry) => (EVENT_PUT, key_value(entry)),
            None => (EVENT_DELETE, tombstone(event)),
        };
        let prev_kv = event.previous.as_deref().filter(|_| self.previous).map(key_value);
        Event { kind, kv: Some(kv), prev_kv }
    }
}

fn tombstone(event: &StoreEvent) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(event.key.as_str().as_bytes()),
        mod_revision: i64::try_from(event.revision).unwrap_or(i64::MAX),
        ..KeyValue::default()
    }
}

/// Splits events so that each part has at most `max` bytes, or one event.
fn pieces(events: Vec<Event>, max: usize) -> Vec<Vec<Event>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let more = event.encoded_len();
        let full = bytes + more > max && pieces.last().is_some_and(|piece: &Vec<Event>| !piece.is_empty());
        if full {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        pieces.last_mut().expect("it began with one").push(event);
    }
    pieces
}
