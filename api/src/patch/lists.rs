//! Lists in a strategic merge patch: union by value or by merge key, and the order of the result.
//!
//! The order is that of `$setElementOrder` or, without it, of the patch, for the items it names; items that only
//! the server has keep their own order and go before the first named item that followed them.

use serde_json::Value;

use super::strategic::{DIRECTIVE, Meta, Object, merge_object, unknown_directive, without_directives};
use super::{Error, go_text};

/// What the table says of a list.
pub(super) struct Items {
    pub(super) meta: Meta,
    /// Empty for lists of plain values.
    pub(super) merge_key: &'static str,
    pub(super) merges: bool,
}

/// Merges a patch's list into the object's; with `deletes`, takes the listed values out instead.
pub(super) fn merge(original: Vec<Value>, patch: Vec<Value>, of: &Items, deletes: bool) -> Result<Vec<Value>, Error> {
    if !of.merges && !deletes {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !all_objects(&original, &patch)? {
        if deletes {
            return Ok(original.into_iter().filter(|value| !patch.contains(value)).collect());
        }
        let mut merged = original.clone();
        merged.extend(patch.iter().cloned());
        return Ok(arrange(dedup(merged), &patch, &patch, &original, ""));
    }
    if of.merge_key.is_empty() {
        return Err(Error::Other(format!("cannot merge lists without merge key for {}", of.meta.name())));
    }
    let (original, patch) = apply_directives(original, patch, of.merge_key)?;
    let merged = merge_objects(original.clone(), &patch, of)?;
    check_keys(&merged, of.merge_key)?;
    Ok(arrange(merged, &patch, &patch, &original, of.merge_key))
}

/// Merges under `$setElementOrder`; None when neither side has the list.
pub(super) fn merge_in_order(
    original: Option<Vec<Value>>,
    patch: Option<Vec<Value>>,
    order: &[Value],
    of: &Items,
) -> Result<Option<Vec<Value>>, Error> {
    let mut live = original.clone().unwrap_or_default();
    let change = patch.clone().unwrap_or_default();
    let merged = match (original, patch) {
        (None, None) => return Ok(None),
        (Some(original), None) => original,
        (None, Some(patch)) => patch.into_iter().filter_map(without_directives).collect(),
        (Some(original), Some(patch)) => {
            let merged = merge(original, patch, of, false)?;
            live = reused_slots(live, &change, &merged, of.merge_key);
            merged
        }
    };
    if live.is_empty() && change.is_empty() {
        return Err(Error::Other("no elements in any of the given slices".to_owned()));
    }
    all_objects(&live, &change)?;
    if !of.merge_key.is_empty() {
        check_keys(&merged, of.merge_key)?;
        check_keys(order, of.merge_key)?;
    }
    Ok(Some(arrange(merged, order, order, &live, of.merge_key)))
}

/// Upstream deletes and appends in the memory of the original list, so that new items take the slots of deleted
/// ones there and count as having been at that place.
fn reused_slots(live: Vec<Value>, change: &[Value], merged: &[Value], key: &str) -> Vec<Value> {
    let has = |list: &[Value], value: &Value| list.iter().any(|one| same(one, value, key));
    if key.is_empty() || !change.iter().any(|item| item.get(DIRECTIVE).is_some_and(|name| name == "delete")) {
        return live;
    }
    let (mut slots, deleted): (Vec<Value>, Vec<Value>) = live.into_iter().partition(|item| has(merged, item));
    let fresh: Vec<Value> = change.iter().filter(|item| has(merged, item) && !has(&slots, item)).cloned().collect();
    slots.extend(fresh.into_iter().take(deleted.len()));
    slots
}

/// Checks that the patch's items are a subset of the order list, in its order.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let deleted = |value: &Value| value.get(DIRECTIVE).is_some();
    let mut wanted = patch.iter().filter(|value| !deleted(value)).peekable();
    for one in order {
        let Some(next) = wanted.peek() else { break };
        if identity(next, key)? == identity(one, key)? {
            wanted.next();
        }
    }
    if wanted.peek().is_none() {
        return Ok(());
    }
    let text = |items: &[Value]| go_text(&Value::Array(items.to_vec()));
    Err(Error::Other(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        text(patch),
        text(order)
    )))
}

/// The merge key's value, or the value itself.
fn identity<'a>(value: &'a Value, key: &str) -> Result<&'a Value, Error> {
    if key.is_empty() {
        return Ok(value);
    }
    let object = value.as_object().ok_or_else(|| not_an_object(value))?;
    object.get(key).ok_or_else(|| no_merge_key(value, key))
}

fn no_merge_key(value: &Value, key: &str) -> Error {
    Error::Other(format!("map: {} does not contain declared merge key: {key}", go_text(value)))
}

fn not_an_object(value: &Value) -> Error {
    Error::Other(format!("expected a map[string]interface {{}}, but received a {}", super::go_type(value)))
}

fn check_keys(items: &[Value], key: &str) -> Result<(), Error> {
    items.iter().try_for_each(|item| identity(item, key).map(|_| ()))
}

/// True for lists of objects, false for plain values; an error for anything mixed or nested.
fn all_objects(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kinds = original.iter().chain(patch).map(super::go_type);
    let first = kinds.next().unwrap_or("string");
    if first == "[]interface {}" {
        return Err(Error::Inapplicable("lists of lists are not supported".to_owned()));
    }
    if kinds.any(|kind| kind != first) {
        let text = |items: &[Value]| go_text(&Value::Array(items.to_vec()));
        let both = format!("[{} {}]", text(original), text(patch));
        return Err(Error::Other(format!("list element types are not identical: {both}")));
    }
    Ok(first == "map[string]interface {}")
}

fn dedup(items: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// Carries out the `$patch` items of a list and returns the rest.
fn apply_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut rest, mut replace) = (Vec::with_capacity(patch.len()), false);
    for item in patch {
        match item.get(DIRECTIVE) {
            None => rest.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let doomed = identity(&item, key)?;
                    original.retain(|one| one.get(key) != Some(doomed));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(Error::Other("merging lists cannot yet be specified in the patch".to_owned()));
                }
                _ => return Err(unknown_directive(directive, object(item.clone()))),
            },
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (original, rest) })
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

fn merge_objects(mut original: Vec<Value>, patch: &[Value], of: &Items) -> Result<Vec<Value>, Error> {
    for item in patch {
        let wanted = identity(item, of.merge_key)?;
        let found = original.iter_mut().find(|one| one.get(of.merge_key) == Some(wanted));
        match found {
            Some(slot) => {
                let merged = merge_object(object(slot.take()), object(item.clone()), of.meta)?;
                *slot = Value::Object(merged);
            }
            None => original.push(item.clone()),
        }
    }
    Ok(original)
}

/// Splits items by whether `named` has them and merges both parts, each sorted by its own order.
fn arrange(items: Vec<Value>, named: &[Value], order: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], value: &Value| list.iter().position(|one| same(one, value, key));
    let (mut patch, mut server): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(named, item).is_some());
    sort(&mut patch, |item| place(order, item));
    sort(&mut server, |item| place(live, item));
    let mut out = Vec::with_capacity(patch.len() + server.len());
    let mut server = server.into_iter().peekable();
    for item in patch {
        let before = place(live, &item);
        while let Some(next) = server.peek() {
            let at = place(live, next);
            if before.is_none() || at.is_none() || at > before {
                break;
            }
            out.extend(server.next());
        }
        out.push(item);
    }
    out.extend(server);
    out
}

/// Sorts by place. Upstream's comparison calls an item of unknown place less than any other, so that its insertion
/// sort carries such items to the front, the last one first; clients see that order.
fn sort(items: &mut Vec<Value>, place: impl Fn(&Value) -> Option<usize>) {
    let mut sorted: Vec<(Option<usize>, Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let own = place(&item);
        let before = |(other, _): &(Option<usize>, Value)| match (own, *other) {
            (Some(own), Some(other)) => own < other,
            _ => true,
        };
        let kept = sorted.iter().rev().take_while(|other| before(other)).count();
        sorted.insert(sorted.len() - kept, (own, item));
    }
    items.extend(sorted.into_iter().map(|(_, item)| item));
}

fn same(left: &Value, right: &Value, key: &str) -> bool {
    match key {
        "" => left == right,
        key => left.get(key) == right.get(key),
    }
}
