//! Validation of projected volumes: several sources under one directory, without colliding paths.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{paths, sources};
use crate::names;
use crate::object_meta::{annotations, label_selector};
use crate::shown;
use crate::tree::{at, entries, has, list, opt_int, opt_text, some, text};

const COLLISION: &str = "conflicting duplicate paths";
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const TOKEN_MIN: i64 = 600;
const TOKEN_MAX: i64 = 1 << 32;
const CERTIFICATE_MIN: i64 = 3600;
const CERTIFICATE_MAX: i64 = 91 * 86_400;
const KUBERNETES_CERTIFICATE_MAX: i64 = 86_400;

const BUNDLE: [(&str, &str); 6] = [
    ("Name", "name"),
    ("SignerName", "signerName"),
    ("LabelSelector", "labelSelector"),
    ("Optional", "optional"),
    ("Path", "path"),
    ("User", "user"),
];

/// The paths that the sources so far write to.
type Taken = Vec<String>;

/// Validates `projected`.
pub(super) fn validate(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    sources::mode(value, "defaultMode", path, errors);
    let mut taken = Taken::new();
    let at_sources = path.child("sources");
    for (i, source) in list(value, "sources").iter().enumerate() {
        let at_source = at_sources.index(i);
        let mut count = 0;
        for (field, check) in SOURCES {
            if let Some(projection) = some(source, field) {
                count += 1;
                let mut walk = Walk { root: path, taken: &mut taken, errors: &mut *errors };
                check(projection, &at_source.child(field), &mut walk);
            }
        }
        if count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.forbidden(&at_source, detail);
        }
    }
}

/// The walk over the sources: the volume's own path, the paths taken, the errors found.
struct Walk<'a> {
    root: &'a Path<'a>,
    taken: &'a mut Taken,
    errors: &'a mut FieldErrors,
}

impl Walk<'_> {
    /// Notes a path; `shown` is what upstream names when it is taken already.
    fn take(&mut self, path: &str, shown: &str) {
        if self.taken.iter().any(|taken| taken == path) {
            self.errors.invalid(self.root, shown, COLLISION);
        } else {
            self.taken.push(path.to_owned());
        }
    }
}

type Check = fn(&Value, &Path<'_>, &mut Walk<'_>);

const SOURCES: [(&str, Check); 6] = [
    ("secret", keyed),
    ("configMap", keyed),
    ("downwardAPI", downward),
    ("serviceAccountToken", token),
    ("clusterTrustBundle", trust_bundle),
    ("podCertificate", certificate),
];

fn keyed(value: &Value, path: &Path<'_>, walk: &mut Walk<'_>) {
    sources::require(value, &["name"], path, walk.errors);
    let items = path.child("items");
    for (i, item) in list(value, "items").iter().enumerate() {
        sources::key_to_path(item, &items.index(i), walk.errors);
        let target = text(item, "path");
        if !target.is_empty() {
            walk.take(target, text(value, "name"));
        }
    }
}

fn downward(value: &Value, path: &Path<'_>, walk: &mut Walk<'_>) {
    for file in list(value, "items") {
        sources::downward_file(file, path, walk.errors);
        let target = text(file, "path");
        if !target.is_empty() {
            walk.take(target, target);
        }
    }
}

fn token(value: &Value, path: &Path<'_>, walk: &mut Walk<'_>) {
    let at_seconds = path.child("expirationSeconds");
    match opt_int(value, "expirationSeconds") {
        None => walk.errors.required(&at_seconds, ""),
        Some(seconds) if seconds < TOKEN_MIN => {
            let detail = "may not specify a duration less than 10 minutes";
            walk.errors.invalid(&at_seconds, seconds, detail);
        }
        Some(seconds) if seconds > TOKEN_MAX => {
            let detail = "may not specify a duration larger than 2^32 seconds";
            walk.errors.invalid(&at_seconds, seconds, detail);
        }
        Some(_) => {}
    }
    // Upstream reports the path at the volume, not at the source.
    match text(value, "path") {
        "" => walk.errors.required(&walk.root.child("path"), ""),
        target => paths::local(target, &walk.root.child("path"), walk.errors),
    }
}

fn trust_bundle(value: &Value, path: &Path<'_>, walk: &mut Walk<'_>) {
    match (opt_text(value, "name"), opt_text(value, "signerName")) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            shown::invalid(path, &shown::internal(value, &BUNDLE), detail, walk.errors);
        }
        (Some(name), None) => bundle_by_name(value, name, path, walk.errors),
        (None, Some(signer)) => {
            if signer.is_empty() {
                walk.errors.required(&path.child("signerName"), "must be a valid signer name");
            }
            crate::certificates::signer_name(signer, &path.child("signerName"), walk.errors);
            label_selector(at(value, "labelSelector"), &path.child("labelSelector"), walk.errors);
        }
        (None, None) => {
            walk.errors.required(path, "either name or signerName must be specified");
        }
    }
    let target = text(value, "path");
    if target.is_empty() {
        walk.errors.required(&path.child("path"), "");
    }
    paths::local(target, &path.child("path"), walk.errors);
    walk.take(target, target);
}

fn bundle_by_name(value: &Value, name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_name = path.child("name");
    if name.is_empty() {
        errors.required(&at_name, "must be a valid object name");
    }
    let plain = name.rsplit_once(':').map_or(name, |(_, last)| last);
    for complaint in names::subdomain(plain) {
        let detail = format!("not a valid clustertrustbundlename: {complaint}");
        errors.invalid(&at_name, name, &detail);
    }
    if let Some(selector) = some(value, "labelSelector") {
        let detail = "labelSelector must be unset if name is specified";
        shown::invalid(&path.child("labelSelector"), &shown::selector(selector), detail, errors);
    }
}

fn certificate(value: &Value, path: &Path<'_>, walk: &mut Walk<'_>) {
    let signer = text(value, "signerName");
    crate::certificates::signer_name(signer, &path.child("signerName"), walk.errors);
    if has(value, "userAnnotations") {
        user_annotations(value, &path.child("userAnnotations"), walk.errors);
    }
    let key_type = text(value, "keyType");
    if !KEY_TYPES.contains(&key_type) {
        super::not_supported_unsorted(&path.child("keyType"), key_type, &KEY_TYPES, walk.errors);
    }
    certificate_lifetime(value, signer, path, walk.errors);
    let mut count = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let target = text(value, field);
        if target.is_empty() {
            continue;
        }
        count += 1;
        paths::local(target, &path.child(field), walk.errors);
        walk.take(target, target);
    }
    if count == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        walk.errors.required(path, detail);
    }
}

fn certificate_lifetime(value: &Value, signer: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("maxExpirationSeconds");
    let Some(seconds) = opt_int(value, "maxExpirationSeconds") else {
        return;
    };
    if seconds < CERTIFICATE_MIN {
        let detail = "if provided, maxExpirationSeconds must be >= 3600";
        errors.invalid(&path, seconds, detail);
    }
    let max = if signer.starts_with("kubernetes.io/") { KUBERNETES_CERTIFICATE_MAX } else { CERTIFICATE_MAX };
    if seconds > max {
        let detail = format!("if provided, maxExpirationSeconds must be <= {max}");
        errors.invalid(&path, seconds, &detail);
    }
}

fn user_annotations(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, _) in entries(value, "userAnnotations") {
        if names::label_key(&key.to_lowercase()).is_empty() && !key.contains('/') {
            let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.invalid(path, key.to_lowercase(), detail);
        }
    }
    annotations(at(value, "userAnnotations"), path, errors);
}
