//! Names and amounts of compute resources: what is standard, what may be overcommitted, what must be whole.

use api::Value;
use api::field::{FieldErrors, Path};
use api::quantity::Quantity;

use crate::names;
use crate::object_meta::NON_NEGATIVE;

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const COMPUTE_QUOTA: [&str; 7] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const NOT_INTEGER: &str = "must be an integer";

/// `hugepages-2Mi` and the like.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource of Kubernetes itself, not of a vendor.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A vendor's resource that a container may ask for.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::label_key(&format!("requests.{name}")).is_empty()
}

/// Requests may be lower than limits.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Standard in a quota: compute, storage and object counts.
pub fn is_standard_quota(name: &str) -> bool {
    CONTAINER.contains(&name)
        || COUNTED.contains(&name)
        || COMPUTE_QUOTA.contains(&name)
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    is_standard_quota(name) || name == "storage"
}

/// The amount must be whole.
pub fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A resource that `spec.resources` of a pod supports.
pub fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || is_huge_page(name)
}

/// Validates a resource's name anywhere. False when it has found something.
pub fn validate(name: &str, path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let complaints = names::label_key(name);
    if !complaints.is_empty() {
        crate::object_meta::invalid_each(path, name, complaints, errors);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        let detail = "must be a standard resource type or fully qualified";
        errors.invalid(path, name, detail);
        return false;
    }
    true
}

/// Validates the name of a resource in a container's requests or limits.
pub fn validate_container(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    validate(name, path, errors);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_page(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// Validates the name of a resource in a pod's own requests or limits.
pub fn validate_pod_level(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if validate(name, path, errors) && !is_pod_level(name) {
        errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Validates the name of a resource in a quota.
pub fn validate_quota(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    validate(name, path, errors);
    if !name.contains('/') && !is_standard_quota(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Validates an amount: not negative, and whole where it counts things.
pub fn validate_amount(name: &str, amount: &Quantity, path: &Path<'_>, errors: &mut FieldErrors) {
    non_negative(amount, path, errors);
    if is_integer(name) && amount.as_i64().is_none() {
        errors.invalid(path, amount.to_string(), NOT_INTEGER);
    }
}

/// The amount must be at least 0.
pub fn non_negative(amount: &Quantity, path: &Path<'_>, errors: &mut FieldErrors) {
    if amount.sign() < 0 {
        errors.invalid(path, amount.to_string(), NON_NEGATIVE);
    }
}

/// The amount must be above 0.
pub fn positive(amount: &Quantity, path: &Path<'_>, errors: &mut FieldErrors) {
    if amount.sign() <= 0 {
        errors.invalid(path, amount.to_string(), "must be greater than zero");
    }
}

/// A quantity field of a tree; absent when missing or malformed.
pub fn quantity(value: &Value, field: &str) -> Option<Quantity> {
    let value = crate::tree::some(value, field)?;
    Quantity::from_value(value).ok()
}

/// The entries of a resource list.
pub fn amounts(list: &Value) -> impl Iterator<Item = (&str, Quantity)> {
    let map = list.as_object();
    map.into_iter().flatten().filter_map(|(name, amount)| Some((name.as_str(), Quantity::from_value(amount).ok()?)))
}

/// Writes every amount of a resource list in canonical form, rounded up to thousandths as upstream stores them.
pub fn default_list(list: Option<&mut Value>) {
    let Some(map) = list.and_then(Value::as_object_mut) else {
        return;
    };
    for amount in map.values_mut() {
        if let Ok(mut quantity) = Quantity::from_value(amount) {
            quantity.round_up_milli();
            *amount = Value::String(quantity.to_string());
        }
    }
}

/// Whether a huge-page amount is a multiple of the page size in its resource's name.
pub fn is_whole_pages(name: &str, amount: &Quantity) -> bool {
    let size = name.strip_prefix("hugepages-").unwrap_or("");
    let Ok(size) = Quantity::parse(size) else {
        return false;
    };
    matches!(size.as_i64(), Some(size) if size > 0 && amount.value() % size == 0)
}
