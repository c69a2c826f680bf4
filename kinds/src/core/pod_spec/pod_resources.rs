//! Validation of resources at the level of the pod: its own requests and limits, and its resource claims.

use std::collections::BTreeMap;

use api::Value;
use api::field::{FieldErrors, Path};
use api::quantity::Quantity;

use super::{Context, Meta, containers::is_sidecar, resources};
use crate::names::{self, NameRule};
use crate::object_meta::invalid_each;
use crate::resource_name::{amounts, is_huge_page, quantity};
use crate::shown;
use crate::tree::{at, has, list, opt_text, some, text};

const CLAIM: [(&str, &str); 3] = [
    ("Name", "name"),
    ("ResourceClaimName", "resourceClaimName"),
    ("ResourceClaimTemplateName", "resourceClaimTemplateName"),
];

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// Validates `resourceClaims`.
pub(super) fn claims(spec: &Value, meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let is_mirror = match meta {
        Meta::Pod(pod) => api::meta::annotation(pod, "kubernetes.io/config.mirror").is_some(),
        Meta::Template => false,
    };
    let claims = list(spec, "resourceClaims");
    for (i, claim) in claims.iter().enumerate() {
        let path = path.index(i);
        if is_mirror {
            errors.forbidden(&Path::ROOT, "static pods do not support resource claims");
            continue;
        }
        let name = text(claim, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if claims[..i].iter().any(|c| text(c, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            invalid_each(&path.child("name"), name, names::label(name), errors);
        }
        claim_source(claim, &path, errors);
    }
}

fn claim_source(claim: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let names = ["resourceClaimName", "resourceClaimTemplateName"];
    match names.iter().filter(|field| has(claim, field)).count() {
        0 => {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            shown::invalid(path, &shown::internal(claim, &CLAIM), detail, errors);
        }
        1 => {}
        _ => {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            shown::invalid(path, &shown::internal(claim, &CLAIM), detail, errors);
        }
    }
    for field in names {
        if let Some(name) = opt_text(claim, field) {
            let complaints = NameRule::Dns1123Subdomain.check(name, false);
            invalid_each(&path.child(field), name, complaints, errors);
        }
    }
}

/// Validates the pod's own `resources` and that its containers fit into them.
pub(super) fn validate(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(own) = some(cx.spec, "resources") else {
        return;
    };
    let path = path.child("resources");
    if text(at(cx.spec, "os"), "name") == "windows" {
        errors.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if has(own, "claims") {
        let detail = "claims may not be set for Resources at pod-level";
        errors.forbidden(&path.child("claims"), detail);
    }
    resources::pod(own, &cx.claims, &path, errors);
    consistency(cx.spec, own, &path, errors);
}

fn consistency(spec: &Value, own: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (requests, limits) = (at(own, "requests"), at(own, "limits"));
    let at_requests = path.child("requests");
    for (name, sum) in total(spec, "requests") {
        if let Some(amount) = quantity(requests, name).filter(|amount| sum > *amount) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at_requests.key(name), amount.to_string(), &detail);
        }
    }
    let at_limits = path.child("limits");
    for (name, sum) in total(spec, "limits").into_iter().filter(|(n, _)| is_huge_page(n)) {
        if let Some(amount) = quantity(limits, name).filter(|amount| sum > *amount) {
            let detail = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&at_limits.key(name), amount.to_string(), &detail);
        }
    }
    let at_containers = path.child("containers");
    for (i, container) in list(spec, "containers").iter().enumerate() {
        for (name, amount) in amounts(at(at(container, "resources"), "limits")) {
            if let Some(limit) = quantity(limits, name).filter(|limit| amount > *limit) {
                let detail = format!("must be less than or equal to pod limits of {limit}");
                let at_container = at_containers.index(i);
                let path = at_container.key(name);
                errors.invalid(&path.child("limits"), amount.to_string(), &detail);
            }
        }
    }
}

/// What the containers need together: the regular ones and sidecars at once, or the largest init phase.
pub(crate) fn total<'a>(spec: &'a Value, field: &str) -> Amounts<'a> {
    let of = |container: &'a Value| amounts(at(at(container, "resources"), field_of(field)));
    let mut sum = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut sum, of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list(spec, "initContainers") {
        let mut phase = sidecars.clone();
        if is_sidecar(container) {
            add(&mut sum, of(container));
            add(&mut sidecars, of(container));
            phase = sidecars.clone();
        } else {
            add(&mut phase, of(container));
        }
        raise(&mut peak, phase);
    }
    raise(&mut sum, peak);
    sum
}

fn field_of(field: &str) -> &'static str {
    if field == "limits" { "limits" } else { "requests" }
}

fn add<'a>(sum: &mut Amounts<'a>, amounts: impl Iterator<Item = (&'a str, Quantity)>) {
    for (name, amount) in amounts {
        sum.entry(name).or_insert_with(Quantity::zero).add(&amount);
    }
}

fn raise<'a>(sum: &mut Amounts<'a>, phase: Amounts<'a>) {
    for (name, amount) in phase {
        let known = sum.entry(name).or_insert_with(Quantity::zero);
        if amount > *known {
            *known = amount;
        }
    }
}
