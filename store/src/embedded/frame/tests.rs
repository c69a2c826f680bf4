//! Every single flipped bit is noticed; every lost sector is told apart from that.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::contract::{Entry, Event};

fn put(revision: u64, name: &str, value: &[u8]) -> Change {
    let key = Key::new(["pods", name]).unwrap();
    let value = Bytes::copy_from_slice(value);
    let (create_revision, mod_revision) = (revision, revision);
    let entry = Entry { key: key.clone(), value, create_revision, mod_revision, version: 1, lease: NO_LEASE };
    let event = Arc::new(Event { revision, key, current: Some(Arc::new(entry)), previous: None });
    Change::Write(Written { event, deadline_millis: Some(77), follows: false })
}

fn delete(revision: u64, name: &str) -> Change {
    let key = Key::new(["pods", name]).unwrap();
    let event = Arc::new(Event { revision, key, current: None, previous: None });
    Change::Write(Written { event, deadline_millis: None, follows: true })
}

/// A segment of 8 KiB with these frames from the start; values never contain zeros.
fn segment(frames: &[&[Change]]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut starts = Vec::new();
    for changes in frames {
        starts.push(bytes.len());
        encode(&mut bytes, changes, 5);
    }
    starts.push(bytes.len());
    bytes.resize(8192, 0);
    (bytes, starts)
}

fn is_frame(parsed: &Parsed, revision: u64) -> bool {
    matches!(parsed, Parsed::Frame(frame) if frame.first_revision == revision)
}

#[test]
fn frames_come_back_as_written() {
    let (bytes, starts) = segment(&[&[put(2, "a", b"one"), delete(3, "b")], &[put(4, "a", &[1; 1000])]]);
    let Parsed::Frame(first) = parse(&bytes, 0) else { panic!("no frame") };
    assert_eq!((first.first_revision, first.time_millis, first.bytes), (2, 5, starts[1]));
    let key = |name| Key::new(["pods", name]).unwrap();
    let one = Some(Bytes::from_static(b"one"));
    let wanted = [
        WriteRecord { key: key("a"), value: one, deadline_millis: Some(77), lease: NO_LEASE, follows: false },
        WriteRecord { key: key("b"), value: None, deadline_millis: None, lease: NO_LEASE, follows: true },
    ]
    .map(Record::Write);
    assert_eq!(first.records, wanted);
    assert!(is_frame(&parse(&bytes, starts[1]), 4));
    assert_eq!(parse(&bytes, starts[2]), Parsed::End);
}

#[test]
fn bytes_are_known_before_they_are_written() {
    let lease = |id| [Change::Granted { id, ttl_millis: 5 }, Change::Revoked { id }];
    let all = [put(2, "a", b"one"), delete(3, "b"), Change::Compacted { revision: 2 }];
    for change in all.into_iter().chain(lease(7)) {
        let mut buffer = Vec::new();
        encode_record(&mut buffer, &change);
        assert_eq!(record_bytes(&change), buffer.len(), "{change:?}");
    }
    let Change::Write(Written { event, .. }) = delete(3, "b") else { unreachable!("it is a write") };
    assert_eq!(deletion_bytes(&event.key), record_bytes(&delete(3, "b")));
}

#[test]
fn every_flipped_bit_is_damage() {
    let (bytes, starts) = segment(&[&[put(2, "a", b"one")], &[put(3, "b", b"two")]]);
    for bit in 0..starts[2] * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let at = if bit / 8 < starts[1] { 0 } else { starts[1] };
        match parse(&bytes, at) {
            Parsed::Damaged(_) => {}
            // Padding carries nothing.
            Parsed::Frame(frame) => assert!(is_frame(
                &parse(&segment(&[&[put(2, "a", b"one")], &[put(3, "b", b"two")]]).0, at),
                frame.first_revision
            )),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn every_lost_sector_of_the_last_frame_is_a_torn_write() {
    let (bytes, starts) = segment(&[&[put(2, "a", b"one")], &[put(3, "b", &[7; 3000])]]);
    for sector in 0..=starts[2] / SECTOR {
        let mut bytes = bytes.clone();
        let from = (sector * SECTOR).max(starts[1]);
        bytes[from..(sector + 1) * SECTOR].fill(0);
        let parsed = parse(&bytes, starts[1]);
        assert_eq!(parsed, Parsed::Torn, "sector {sector}");
    }
    let mut cut = bytes;
    cut.truncate(starts[2] - 700);
    assert_eq!(parse(&cut, starts[1]), Parsed::Torn, "a file that did not grow");
}

#[test]
fn a_lost_frame_before_others_is_damage() {
    let (mut bytes, starts) = segment(&[&[put(2, "a", b"one")], &[put(3, "b", b"two")]]);
    bytes[..starts[1]].fill(0);
    assert!(matches!(parse(&bytes, 0), Parsed::Damaged(_)));
}

proptest! {
    #[test]
    fn any_values_come_back(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let changes: Vec<_> = (2..).zip(&values).map(|(revision, value)| put(revision, "x", value)).collect();
        let (bytes, _) = segment(&[&changes]);
        let Parsed::Frame(frame) = parse(&bytes, 0) else { panic!("no frame") };
        let value = |record: &Record| match record {
            Record::Write(write) => write.value.clone().unwrap().to_vec(),
            other => panic!("{other:?}"),
        };
        let read: Vec<_> = frame.records.iter().map(value).collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 64..2048), at in 0usize..2) {
        parse(&bytes, at * ALIGNMENT);
    }
}
