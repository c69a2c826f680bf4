//! Fuzzes the transcoder between trees and protobuf: any bytes are refused or read, and what was read can be written
//! and is then read as the same. Bytes that are JSON are written first.

#![no_main]

use api::GroupVersionKind;
use api::protobuf::{decode_body, encode_object};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let written = serde_json::from_slice(bytes).ok().and_then(|tree| encode_object(&tree).ok());
    check_stable(written.as_deref().unwrap_or(bytes));
});

/// Bytes that do not say what they are count as a pod.
fn check_stable(bytes: &[u8]) {
    let Ok(body) = decode_body(bytes, &GroupVersionKind::new("", "v1", "Pod")) else { return };
    let Ok(written) = encode_object(&body.value) else { return };
    match decode_body(&written, &body.gvk) {
        Ok(again) => assert_eq!(again.value, body.value),
        Err(status) => panic!("what was written of {} is refused: {}", body.value, status.message),
    }
}
