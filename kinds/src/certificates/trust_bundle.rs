//! Cluster trust bundles. The certificates inside are parsed by who trusts them.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::certificates::signer_name;
use crate::object_meta::immutable;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, text};

/// The trust bundle strategy.
#[derive(Debug)]
pub(crate) struct TrustBundle;

const SIZE_MAX: usize = 1024 * 1024;

impl Strategy for TrustBundle {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str, prefix: bool) -> crate::names::Complaints {
        // Upstream asks for `signer:domain:name`; the parts are checked with the signer's name below.
        let last = name.rsplit(':').next().unwrap_or(name);
        self.name_rule().check(last, prefix)
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), Path::new("spec"));
        name(object, errors);
        let signer = text(spec, "signerName");
        if !signer.is_empty() {
            signer_name(signer, &path.child("signerName"), errors);
        }
        bundle(text(spec, "trustBundle"), &path.child("trustBundle"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
        let signer = |object| at(at(object, "spec"), "signerName");
        let spec = Path::new("spec");
        immutable(signer(new), signer(old), &spec.child("signerName"), errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(rows::or_none(text(at(object, "spec"), "signerName")))])
    }
}

fn name(object: &Value, errors: &mut FieldErrors) {
    let (name, signer) = (api::meta::name(object), text(at(object, "spec"), "signerName"));
    let metadata = Path::new("metadata");
    let path = metadata.child("name");
    let prefix = format!("{}:", signer.replace('/', ":"));
    if signer.is_empty() && name.contains(':') {
        let detail = "ClusterTrustBundle without signer name must not have \":\" in its name";
        errors.invalid(&path, name, detail);
    } else if !signer.is_empty() && !name.starts_with(&prefix) {
        let detail = format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
        errors.invalid(&path, name, &detail);
    }
}

fn bundle(bundle: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if bundle.len() > SIZE_MAX {
        errors.too_long(path, SIZE_MAX);
        return;
    }
    let kinds = bundle.split("-----BEGIN ").skip(1).filter_map(|block| block.split_once("-----"));
    let mut anchors = 0;
    for (index, (kind, _)) in kinds.enumerate() {
        anchors += 1;
        if kind != "CERTIFICATE" {
            errors.invalid(path, "<value omitted>", &format!("entry {index} has bad block type: {kind}"));
        }
    }
    if anchors == 0 {
        errors.invalid(path, "<value omitted>", "at least one trust anchor must be provided");
    }
}
