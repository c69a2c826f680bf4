//! Continue tokens: where the next page of a list begins, and at which revision.

use api::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

const VERSION: &str = "meta.k8s.io/v1";
/// The revision of a token that goes on at whatever is newest.
const NEWEST: i64 = -1;

/// A token's content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "v", default)]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    /// A key's suffix below the list's prefix; the page begins there.
    #[serde(default)]
    pub(crate) start: String,
}

impl Token {
    /// Goes on after a key at a revision; None for the newest.
    pub(crate) fn after(suffix: &str, revision: Option<u64>) -> Self {
        Self::from(format!("{suffix}\0"), revision)
    }

    /// Begins at a key's suffix.
    pub(crate) fn from(start: String, revision: Option<u64>) -> Self {
        let revision = revision.map_or(NEWEST, |revision| i64::try_from(revision).unwrap_or(NEWEST));
        Self { version: VERSION.to_owned(), revision, start }
    }

    /// The revision of the list; None for the newest.
    pub(crate) fn revision(&self) -> Option<u64> {
        u64::try_from(self.revision).ok()
    }

    /// As sent to clients.
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token always encodes"))
    }

    /// Reads what a client sends back.
    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len().saturating_sub(1),
            };
            invalid(&format!("illegal base64 data at input byte {at}"))
        })?;
        api::schema::check_syntax(&bytes).map_err(|error| invalid(&error))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
        if token.version != VERSION {
            let text = format!("server does not recognize this encoded version {}", token.version);
            return Err(invalid(&text));
        }
        if token.revision == 0 {
            return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        if token.start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A start that walks upwards would be a key outside of what was authorized.
        let path = token.start.trim_start_matches('/');
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(invalid(&token.start));
        }
        Ok(token)
    }
}
