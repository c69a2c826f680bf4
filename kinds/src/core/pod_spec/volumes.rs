//! Validation of a pod's volumes: their names and that each has exactly one source.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Meta, sources};
use crate::names::{self, NameRule};
use crate::object_meta::invalid_each;
use crate::tree::{list, some, text};

const TOO_MANY_SOURCES: &str = "may not specify more than 1 volume type";

/// Validates `volumes` and returns the well-formed ones: only those can be mounted.
pub(super) fn validate<'a>(
    spec: &'a Value,
    meta: Meta<'_>,
    path: &Path<'_>,
    errors: &mut FieldErrors,
) -> Vec<(&'a str, &'a Value)> {
    let volumes = list(spec, "volumes");
    let mut good: Vec<(&str, &Value)> = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let name = text(volume, "name");
        let mut found = FieldErrors::new();
        source(volume, meta, &path, &mut found);
        match name {
            "" => found.required(&path.child("name"), ""),
            name => invalid_each(&path.child("name"), name, names::label(name), &mut found),
        }
        if good.iter().any(|(known, _)| *known == name) {
            found.duplicate(&path.child("name"), name);
        }
        if found.is_empty() {
            good.push((name, volume));
        }
        errors.0.append(&mut found.0);
        created_claim(volume, volumes, meta, &path, errors);
    }
    good
}

/// A volume must not use the claim that another one creates.
fn created_claim(volume: &Value, volumes: &[Value], meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let (Some(claim), Some(pod)) = (some(volume, "persistentVolumeClaim"), meta.pod_name()) else {
        return;
    };
    let claim = text(claim, "claimName");
    let created = volumes
        .iter()
        .filter(|v| some(v, "ephemeral").is_some())
        .any(|v| claim == format!("{pod}-{}", text(v, "name")));
    if created {
        let path = path.child("persistentVolumeClaim");
        let detail = "must not reference a PVC that gets created for an ephemeral volume";
        errors.invalid(&path.child("claimName"), claim, detail);
    }
}

fn source(volume: &Value, meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut count = 0;
    for entry in &sources::TABLE {
        let Some(source) = some(volume, entry.field) else {
            continue;
        };
        if count > 0 {
            errors.forbidden(&path.child(entry.shown_extra), TOO_MANY_SOURCES);
            continue;
        }
        count += 1;
        (entry.check)(source, &path.child(entry.shown), errors);
        match entry.field {
            "iscsi" => long_portal(volume, source, path, errors),
            "ephemeral" => ephemeral_claim_name(volume, meta, path, errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn long_portal(volume: &Value, source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(volume, "name");
    let length = name.len() + 1 + text(source, "targetPortal").len();
    if some(source, "initiatorName").is_some() && length > 64 {
        errors.invalid(&path.child("name"), name, sources::LONG_PORTAL);
    }
}

fn ephemeral_claim_name(volume: &Value, meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(volume, "name");
    let Some(pod) = meta.pod_name().filter(|_| !name.is_empty()) else {
        return;
    };
    let claim = format!("{pod}-{name}");
    for complaint in NameRule::Dns1123Subdomain.check(&claim, false) {
        let detail = format!("PVC name {claim:?}: {complaint}");
        errors.invalid(&path.child("name"), name, &detail);
    }
}
