//! Chain names: a prefix and a hash, because a chain's name has at most 28 characters.

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use crate::track::{Endpoint, ServicePort};

const HASH_CHARS: usize = 16;

/// A chain of one port.
pub(super) fn service_chain(prefix: &str, port: &ServicePort) -> String {
    hashed(prefix, &[&port.name, &port.protocol])
}

/// The chain of one endpoint of a port.
pub(super) fn endpoint_chain(port: &ServicePort, endpoint: &Endpoint) -> String {
    let address = format!("{}:{}", endpoint.ip, endpoint.port);
    hashed("KUBE-SEP-", &[&port.name, &port.protocol, &address])
}

fn hashed(prefix: &str, parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.concat());
    let text = BASE32.encode(&digest);
    format!("{prefix}{}", &text[..HASH_CHARS])
}
