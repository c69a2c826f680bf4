//! Limit ranges.

use std::collections::{BTreeMap, BTreeSet};

use api::Value;
use api::field::{FieldErrors, Path};
use api::quantity::{Format, Quantity};

use crate::names;
use crate::object_meta::invalid_each;
use crate::resource_name::{amounts, default_list, may_overcommit, validate, validate_container};
use crate::strategy::{Request, Strategy};
use crate::tree::{at, default_to, enter, entry_count, has, list, list_mut, text};

/// The limit range strategy.
#[derive(Debug)]
pub(crate) struct LimitRange;

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
/// Above this, ratios are computed with whole numbers instead of thousandths.
const MILLI_MAX: i64 = i64::MAX / 1000;

impl Strategy for LimitRange {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        for item in list_mut(enter(object, "spec"), "limits") {
            for field in LISTS {
                default_list(item.get_mut(field));
            }
            if text(item, "type") == "Container" {
                fill(item, "max", "default");
                fill(item, "default", "defaultRequest");
                fill(item, "min", "defaultRequest");
            }
        }
    }

    /// A name that nobody chose is a UUID.
    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        if api::meta::name(object).is_empty() {
            let name = api::meta::uid(object).to_owned();
            api::meta::set(object, "name", name.into());
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        let path = spec.child("limits");
        let mut seen = BTreeSet::new();
        for (index, item) in list(at(object, "spec"), "limits").iter().enumerate() {
            let path = path.index(index);
            let kind = text(item, "type");
            kind_name(kind, &path.child("type"), errors);
            if !seen.insert(kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            limits(item, kind, &path, errors);
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
    }
}

/// Copies the amounts of one list that another one does not have.
fn fill(item: &mut Value, from: &str, into: &str) {
    let Some(from) = at(item, from).as_object().filter(|from| !from.is_empty()).cloned() else {
        return;
    };
    let into = enter(item, into);
    for (name, amount) in from {
        default_to(into, &name, amount);
    }
}

fn kind_name(kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let complaints = names::label_key(kind);
    if !complaints.is_empty() {
        invalid_each(path, kind, complaints, errors);
    } else if !kind.contains('/') && !TYPES.contains(&kind) {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
}

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn limits(item: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut lists: [Amounts<'_>; 5] = Default::default();
    for (field, found) in LISTS.iter().zip(&mut lists) {
        let at_list = path.child(field);
        if kind == "Pod" && field.starts_with("default") {
            if entry_count(item, field) > 0 {
                errors.forbidden(&at_list, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in amounts(at(item, field)) {
            let path = at_list.key(name);
            match kind {
                "Pod" | "Container" => validate_container(name, &path, errors),
                _ => {
                    validate(name, &path, errors);
                }
            }
            found.insert(name, amount);
        }
    }
    let bounded = ["min", "max"].iter().any(|bound| has(at(item, bound), "storage"));
    if kind == "PersistentVolumeClaim" && !bounded {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    let names: BTreeSet<&str> = lists.iter().flat_map(|list| list.keys().copied()).collect();
    for name in names {
        let item = lists.each_ref().map(|list| list.get(name));
        consistent(name, item, path, errors);
        ratio(name, item, path, errors);
    }
}

/// The amounts of one resource, in the order of the lists.
type Item<'a> = [Option<&'a Quantity>; 5];

fn consistent(name: &str, item: Item<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let [max, min, default, request, _] = item;
    // What must not be lower than what, where the error is and which of the two it shows.
    let rules = [
        ("min", (min, "min"), (max, "max"), true),
        ("defaultRequest", (min, "min"), (request, "default request"), false),
        ("defaultRequest", (request, "default request"), (max, "max"), true),
        ("defaultRequest", (request, "default request"), (default, "default limit"), true),
        ("default", (min, "min"), (default, "default"), true),
        ("default", (default, "default"), (max, "max"), false),
    ];
    for (field, (low, low_name), (high, high_name), shows_low) in rules {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let relation = "is greater than";
            let detail = format!("{low_name} value {low} {relation} {high_name} value {high}");
            let shown = if shows_low { low } else { high };
            errors.invalid(&path.child(field).key(name), shown.to_string(), &detail);
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !may_overcommit(name)
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&path.child("defaultRequest").key(name), request.to_string(), &detail);
    }
}

fn ratio(name: &str, item: Item<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let [max, min, _, _, Some(ratio)] = item else {
        return;
    };
    let lists = path.child("maxLimitRequestRatio");
    let path = lists.key(name);
    if *ratio < Quantity::new(1, Format::DecimalSi) {
        errors.invalid(&path, ratio.to_string(), &format!("ratio {ratio} is less than 1"));
    }
    let (Some(max), Some(min)) = (max, min) else {
        return;
    };
    let small = [ratio, max, min].iter().all(|amount| amount.value() < MILLI_MAX);
    let number = |amount: &Quantity| if small { amount.milli_value() } else { amount.value() };
    let given = if small { ratio.milli_value() as f64 / 1000.0 } else { ratio.value() as f64 };
    let limit = number(max) as f64 / number(min) as f64;
    if given > limit {
        let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
        errors.invalid(&path, ratio.to_string(), &detail);
    }
}
