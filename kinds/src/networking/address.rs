//! Service addresses and the blocks that they come from.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::ip;
use crate::names::{self, Complaints};
use crate::networking::backend::segment;
use crate::object_meta::{IMMUTABLE, immutable_unshown, invalid_each};
use crate::rows;
use crate::shown;
use crate::strategy::{Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, dig, list, put, some, text, texts};

/// The strategy of addresses.
#[derive(Debug)]
pub(crate) struct IpAddress;

/// The strategy of address blocks.
#[derive(Debug)]
pub(crate) struct ServiceCidr;

impl Strategy for IpAddress {
    fn check_name(&self, name: &str, _prefix: bool) -> Complaints {
        let mut found = FieldErrors::new();
        ip::validate(name, &Path::ROOT, &mut found);
        let detail =
            |text: String| text.split_once(": ").and_then(|(_, rest)| rest.split_once(": ")).map(|d| d.1.to_owned());
        found.0.into_iter().filter_map(|error| detail(error.message)).collect()
    }

    fn generates_names(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        parent(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        parent(new, errors);
        let reference = |object| dig(object, &["spec", "parentRef"]);
        immutable_unshown(reference(new), reference(old), &Path::new("spec.parentRef"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let parent = some(at(object, "spec"), "parentRef").map_or(rows::NONE.to_owned(), |parent| {
            let (group, resource) = (text(parent, "group"), text(parent, "resource"));
            let kind = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
            let namespace = match text(parent, "namespace") {
                "" => String::new(),
                namespace => format!("/{namespace}"),
            };
            format!("{}{namespace}/{}", kind.to_lowercase(), text(parent, "name"))
        });
        // Upstream's row has an age, for which it has no column.
        Some(vec![rows::name(object), json!(parent), rows::age(object, now)])
    }
}

fn parent(object: &Value, errors: &mut FieldErrors) {
    let spec = Path::new("spec");
    let path = spec.child("parentRef");
    let Some(parent) = some(at(object, "spec"), "parentRef") else {
        errors.required(&path, "");
        return;
    };
    let group = text(parent, "group");
    if !group.is_empty() {
        invalid_each(&path.child("group"), group, names::subdomain(group), errors);
    }
    segment(parent, "resource", &path, errors);
    segment(parent, "name", &path, errors);
    let namespace = text(parent, "namespace");
    if !namespace.is_empty() {
        invalid_each(&path.child("namespace"), namespace, names::path_segment(namespace, false), errors);
    }
}

impl Strategy for ServiceCidr {
    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        blocks(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        let path = spec.child("cidrs");
        let before: Vec<&str> = texts(at(old, "spec"), "cidrs").collect();
        let after: Vec<&str> = texts(at(new, "spec"), "cidrs").collect();
        let grows = before.len() == 1 && after.len() == 2;
        if before.len() != after.len() && !grows {
            errors.invalid(&path, dig(new, &["spec", "cidrs"]).clone(), IMMUTABLE);
            return;
        }
        for (index, (was, is)) in before.iter().zip(&after).enumerate() {
            if was != is {
                errors.invalid(&path.index(index), *is, IMMUTABLE);
            }
        }
        if grows {
            blocks(new, errors);
        }
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let blocks: Vec<&str> = texts(at(object, "spec"), "cidrs").collect();
        Some(vec![rows::name(object), json!(blocks.join(",")), rows::age(object, now)])
    }
}

fn blocks(object: &Value, errors: &mut FieldErrors) {
    let spec = Path::new("spec");
    let path = spec.child("cidrs");
    let all = list(at(object, "spec"), "cidrs");
    if all.is_empty() {
        errors.required(&path, "at least one CIDR required");
        return;
    }
    if all.len() > 2 {
        let shown = shown::internal(at(object, "spec"), &[("CIDRs", "cidrs")]);
        shown::invalid(&path, &shown, "may only hold up to 2 values", errors);
        return;
    }
    let texts: Vec<&str> = texts(at(object, "spec"), "cidrs").collect();
    for (index, block) in texts.iter().enumerate() {
        ip::validate_cidr(block, &path.index(index), errors);
    }
    let family = |block: &str| ip::parse_cidr(block).map(|(address, _)| address.is_ipv4());
    if let [first, second] = texts[..]
        && family(first).is_some()
        && family(first) == family(second)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, all, detail);
    }
}
