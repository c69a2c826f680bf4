//! Kinds of `certificates.k8s.io`, and what names signers.

pub(crate) mod pod_request;
pub(crate) mod signing_request;
pub(crate) mod trust_bundle;

use api::field::{FieldErrors, Path};

use crate::names;

/// Validates a signer's name: `example.com/signer-name`.
pub(crate) fn signer_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, signer] = segments.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, name, detail);
        return;
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    first_bad_label(domain, names::label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, *domain, detail);
    }
    first_bad_label(signer, names::subdomain, path, errors);
    let max = names::SUBDOMAIN_MAX + names::LABEL_MAX + 1;
    if signer.len() > max {
        errors.too_long(path, max);
    }
}

fn first_bad_label(text: &str, check: fn(&str) -> names::Complaints, path: &Path<'_>, errors: &mut FieldErrors) {
    let bad = text.split('.').find_map(|label| {
        let complaints = check(label);
        (!complaints.is_empty()).then_some((label, complaints))
    });
    for (label, complaint) in bad.into_iter().flat_map(|(l, c)| c.into_iter().map(move |c| (l, c))) {
        errors.invalid(path, text, &format!("validating label {label:?}: {complaint}"));
    }
}
