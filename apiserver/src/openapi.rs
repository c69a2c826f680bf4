//! OpenAPI v3 and v2, built from the schema table when they are asked for.
//!
//! - [`index`] answers `/openapi/v3`: every document with a hash of its content;
//! - [`document`] answers `/openapi/v3/<path>`: a request that names the hash of the content may be kept for ever,
//!   one that names another hash is sent on to the right one;
//! - [`v2`] answers `/openapi/v2`: the same in one document, as JSON or as protobuf.
//!
//! The documents hold what kubectl and other clients read: component schemas with kinds, list and patch extensions,
//! defaults, enumerations and descriptions; paths with every verb, its query parameters and its kind. A document is
//! a megabyte at most and clients keep it on disk, so only the hashes stay in memory; building one takes
//! milliseconds.
//!
//! [`answer`] is the route: one call for every path below `/openapi`.

mod descriptions;
mod operations;
mod paths;
mod protobuf;
mod schemas;
mod serve;
mod text;
mod v2;
mod yaml;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use api::schema::{Version, table};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use self::descriptions::Descriptions;
use self::schemas::Components;
use self::text::Entries;

pub use self::serve::answer;

const OPENID_CONFIGURATION: &str = ".well-known/openid-configuration";
const KEY_SET: &str = "openid/v1/jwks";

/// How long a client may keep a document that it asked for by hash, in seconds.
pub const KEEP_SECONDS: u64 = 365 * 24 * 3600;

/// A document and the hash of its content.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON text, or what was made of it.
    pub bytes: Bytes,
    /// Upper-case hexadecimal SHA-512 of the JSON; quoted it is the ETag.
    pub hash: String,
}

impl Document {
    fn new(entries: Entries) -> Self {
        let bytes = Bytes::from(entries.into_object());
        let hash = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { bytes, hash }
    }

    /// The value of the `ETag` header.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

/// What `/openapi/v3/<path>` answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The document; `immutable` when the request named its hash.
    Document { document: Document, immutable: bool },
    /// The same path with the right hash.
    Redirect(String),
    /// No such document.
    NotFound,
}

/// The list of documents. The first call builds each of them once, for its hash.
pub fn index() -> Document {
    let mut paths = Entries::default();
    for (path, hash) in hashes() {
        paths.add(path, &json!({"serverRelativeURL": url(path, hash)}));
    }
    let mut out = Entries::default();
    out.nest("paths", &paths);
    Document::new(out)
}

/// The document of a path such as `api/v1` or `apis/apps/v1`.
pub fn document(path: &str, hash: Option<&str>) -> Answer {
    let Some(known) = hashes().get(path) else { return Answer::NotFound };
    match hash {
        Some(hash) if !hash.is_empty() && hash != known => Answer::Redirect(url(path, known)),
        hash => match build(path, &Descriptions::read()) {
            Some(document) => Answer::Document { document, immutable: hash.is_some_and(|hash| !hash.is_empty()) },
            None => Answer::NotFound,
        },
    }
}

fn url(path: &str, hash: &str) -> String {
    format!("/openapi/v3/{path}?hash={hash}")
}

fn hashes() -> &'static BTreeMap<String, String> {
    static HASHES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let descriptions = Descriptions::read();
        let of = |path: String| build(&path, &descriptions).map(|document| (path, document.hash));
        document_paths().into_iter().filter_map(of).collect()
    })
}

/// Every document that there is.
fn document_paths() -> Vec<String> {
    let mut out = ["api", "apis", "version", OPENID_CONFIGURATION, KEY_SET].map(str::to_owned).to_vec();
    for group in table().groups() {
        if !group.name.is_empty() {
            out.push(format!("apis/{}", group.name));
        }
        out.extend(group.versions.iter().map(|version| version_path(group.name, version.version)));
    }
    out
}

fn version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn build(path: &str, descriptions: &Descriptions) -> Option<Document> {
    let mut components = Components::default();
    let parts: Vec<&str> = path.split('/').collect();
    let (paths, group) = match parts.as_slice() {
        ["version"] => (paths::version(&mut components), ""),
        _ if path == OPENID_CONFIGURATION => {
            let id = "getServiceAccountIssuerOpenIDConfiguration";
            (paths::tokens(path, "WellKnown", id, "application/json"), "")
        }
        _ if path == KEY_SET => {
            let id = "getServiceAccountIssuerOpenIDKeyset";
            (paths::tokens(path, "openid", id, "application/jwk-set+json"), "")
        }
        ["api"] => (paths::discovery(path, "core", "getCoreAPIVersions", "APIVersions", &mut components), ""),
        ["apis"] => (paths::discovery(path, "apis", "getAPIVersions", "APIGroupList", &mut components), ""),
        ["apis", group] => {
            table().group(group)?;
            let id = format!("get{}APIGroup", operations::group_word(group));
            (paths::discovery(path, &operations::group_tag(group), &id, "APIGroup", &mut components), "")
        }
        ["api", version] => (paths::resources(find("", version)?, "", &mut components), ""),
        ["apis", group, version] => (paths::resources(find(group, version)?, group, &mut components), *group),
        _ => return None,
    };
    let mut out = Entries::default();
    out.add("openapi", &json!("3.0.0"));
    out.add("info", &info());
    out.nest("paths", &paths);
    let mut parts_of = Entries::default();
    if !components.is_empty() {
        parts_of.nest("schemas", &components.write(group, parts.get(2).copied(), descriptions));
    }
    parts_of.add("securitySchemes", &security());
    out.nest("components", &parts_of);
    Some(Document::new(out))
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": api::schema::RELEASE.trim_start_matches('v')})
}

fn security() -> Value {
    json!({"BearerToken": {
        "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
    }})
}

fn find(group: &str, version: &str) -> Option<&'static Version> {
    table().group(group)?.versions.iter().find(|one| one.version == version)
}

#[cfg(test)]
mod tests;
