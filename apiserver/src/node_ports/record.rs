//! Where the ports are kept: a RangeAllocation at the place where upstream has it, with the bits as one large number.

use std::ops::RangeInclusive;
use std::sync::Arc;

use api::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use store::{Entry, Error, Expect, Key, Store};

use super::bitmap::Ports;
use crate::registry::Head;

/// The key's segments and the stored kind.
const SEGMENTS: [&str; 2] = ["ranges", "servicenodeports"];
const KIND: &str = "RangeAllocation";

/// The ports as they are stored at a revision.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) ports: Ports,
    pub(super) revision: u64,
}

/// Where they are stored.
#[derive(Clone)]
pub(super) struct Place {
    store: Arc<dyn Store>,
    key: Key,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    range: String,
    data: Option<String>,
}

impl Place {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, key: Key::new(SEGMENTS).expect("constants are segments") }
    }

    /// What is stored; None when nothing is.
    pub(super) async fn read(&self) -> Result<Option<Record>, Status> {
        let (found, _) = self.store.get(&self.key).await.map_err(|error| failed(&error))?;
        found.as_ref().map(decoded).transpose()
    }

    /// Writes, when what is stored has this revision still, or when nothing is.
    pub(super) async fn write(&self, ports: &Ports, revision: Option<u64>) -> Result<u64, Error> {
        let expect = revision.map_or(Expect::Absent, Expect::Revision);
        self.store.put(self.key.clone(), encoded(ports), expect, None).await
    }
}

/// The failure of the store, as it is answered.
pub(super) fn failed(error: &Error) -> Status {
    Status::internal(format!("keeping the allocated node ports: {error}"))
}

/// Of an entry that a conflict came with.
pub(super) fn decoded(entry: &Entry) -> Result<Record, Status> {
    let wrong = |why: String| Status::internal(format!("decoding the allocated node ports: {why}"));
    let stored: Stored = serde_json::from_slice(&entry.value).map_err(|error| wrong(error.to_string()))?;
    let range = range(&stored.range).ok_or_else(|| wrong(format!("{:?} is no range of ports", stored.range)))?;
    let bytes = STANDARD.decode(stored.data.unwrap_or_default()).map_err(|error| wrong(error.to_string()))?;
    Ok(Record { ports: Ports::from_bytes(range, &bytes), revision: entry.mod_revision })
}

fn encoded(ports: &Ports) -> Bytes {
    let object = json!({"range": shown(ports.range()), "data": STANDARD.encode(ports.to_bytes())});
    Head::new(KIND, "v1").encode(&object, b"")
}

/// `30000-32767`.
pub(super) fn shown(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: impl Into<Bytes>) -> Entry {
        let key = Key::new(SEGMENTS).unwrap();
        Entry { key, value: value.into(), create_revision: 3, mod_revision: 7, version: 1, lease: 0 }
    }

    #[test]
    fn what_is_written_is_read_and_has_upstreams_form() {
        let mut ports = Ports::new(30_000..=32_767);
        [30_000, 30_009].into_iter().for_each(|port| assert!(ports.take(port)));
        let text = encoded(&ports);
        let expected =
            r#"{"kind":"RangeAllocation","apiVersion":"v1","metadata":{},"data":"AgE=","range":"30000-32767"}"#;
        let tree = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(tree(&text), tree(expected.as_bytes()));
        let record = decoded(&entry(text)).unwrap();
        assert_eq!((record.ports, record.revision), (ports, 7));
    }

    /// Upstream's default form on disk.
    #[test]
    fn it_has_a_form_in_protobuf() {
        let gvk = api::GroupVersionKind::new("", "v1", KIND);
        let mut ports = Ports::new(30_000..=32_767);
        ports.take(30_009);
        let bytes = api::protobuf::encode_text(&gvk, &encoded(&ports)).unwrap();
        // Field 2 is the range and field 3 the bits.
        let fields = b"\x12\x0b30000-32767\x1a\x02\x02\x00";
        assert!(bytes.windows(fields.len()).any(|window| window == fields), "{bytes:?}");
        let body = api::protobuf::decode_body(&bytes, &api::GroupVersionKind::new("", "", "")).unwrap();
        assert_eq!(decoded(&entry(body.value.to_string())).unwrap().ports, ports);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [r#"{"range":"","data":""}"#, r#"{"range":"9-8"}"#, r#"{"range":"1-2","data":"*"}"#, "x"] {
            let message = decoded(&entry(text)).unwrap_err().message;
            assert!(message.contains("decoding the allocated node ports: "), "{message}");
        }
        assert_eq!(decoded(&entry(r#"{"range":"1-2","data":null}"#)).unwrap().ports, Ports::new(1..=2));
    }
}
