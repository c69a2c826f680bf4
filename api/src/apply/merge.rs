//! Merging an applied configuration into the live object.
//!
//! Nothing is removed here: what the configuration names wins, all else stays. Lists that are merged item by item keep
//! the configuration's order for its items; the others keep their place before the item that followed them.

use serde_json::{Map, Value};

use super::element::Element;
use super::form::{Form, Merge, name_item};
use crate::schema::Shape;

/// The merged value; None when nothing is left to say.
///
/// # Errors
/// In upstream's words, when an item of a list has no name.
pub(super) fn merge(form: Form, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, String> {
    let Some(winner) = config.or(live) else { return Ok(None) };
    if form.is_leaf(winner) {
        return Ok(Some(winner.clone()));
    }
    match form {
        Form::List { item, merge } => merge_lists((item, merge), live, config),
        _ => merge_maps(form, live, config),
    }
}

fn merge_maps(form: Form, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, String> {
    let entries = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (entries(live), entries(config));
    if before.is_empty() && after.is_empty() {
        return Ok(config.or(live).cloned());
    }
    let mut merged = Map::new();
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let Some((form, _)) = form.entry(name) else { continue };
        if let Some(value) = merge(form, before.get(name), after.get(name))? {
            merged.insert(name.clone(), value);
        }
    }
    Ok((!merged.is_empty()).then_some(Value::Object(merged)))
}

fn merge_lists(
    of: (&'static Shape, Merge),
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, String> {
    let items = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (before, after) = (items(live), items(config));
    if before.is_empty() && after.is_empty() {
        return Ok(config.or(live).cloned());
    }
    let mut errors = Vec::new();
    let lists =
        Lists { form: Form::item(of.0), live: named(of, &before, &mut errors), config: named(of, &after, &mut errors) };
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    let merged = lists.merge()?;
    Ok((!merged.is_empty()).then_some(Value::Array(merged)))
}

fn named<'a>(
    (item, merge): (&'static Shape, Merge),
    items: &'a [Value],
    errors: &mut Vec<String>,
) -> Vec<(Element<'a>, &'a Value)> {
    let mut named = Vec::with_capacity(items.len());
    for (place, value) in items.iter().enumerate() {
        match name_item(item, merge, value) {
            Ok(element) => named.push((element, value)),
            Err(error) => errors.push(format!("element {place}: {error}")),
        }
    }
    named
}

/// Two lists whose items are merged by name. Only the live one may have a name more than once.
struct Lists<'a> {
    form: Form,
    live: Vec<(Element<'a>, &'a Value)>,
    config: Vec<(Element<'a>, &'a Value)>,
}

impl<'a> Lists<'a> {
    fn merge(&self) -> Result<Vec<Value>, String> {
        // Names of both lists in the configuration's order: a live item of another name waits for its turn.
        let mut shared = self.config.iter().map(|(element, _)| element).filter(|element| self.is_live(element));
        let mut next = shared.next();
        let mut taken: Vec<&Element<'a>> = Vec::new();
        let mut out = Vec::with_capacity(self.live.len().max(self.config.len()));
        let (mut l, mut c) = (0, 0);
        while l < self.live.len() || c < self.config.len() {
            if let (Some((own, _)), Some((wanted, _))) = (self.live.get(l), self.config.get(c)) {
                if own == wanted {
                    taken.push(wanted);
                    self.push_shared(&mut out, c)?;
                    (l, c, next) = (l + 1, c + 1, shared.next());
                    continue;
                }
                if self.config_value(own).is_some() && next.is_some_and(|next| next != own) {
                    l += 1;
                    continue;
                }
            }
            if let Some((own, value)) = self.live.get(l) {
                if self.config_value(own).is_none() {
                    out.extend(merge(self.form, Some(value), None)?);
                    l += 1;
                    continue;
                }
                if taken.contains(&own) {
                    l += 1;
                }
            }
            if let Some((wanted, _)) = self.config.get(c) {
                taken.push(wanted);
                self.push_shared(&mut out, c)?;
                c += 1;
                if next == Some(wanted) {
                    next = shared.next();
                }
            }
        }
        Ok(out)
    }

    /// Adds an item of the configuration, merged with the live one of its name.
    fn push_shared(&self, out: &mut Vec<Value>, place: usize) -> Result<(), String> {
        let (element, value) = &self.config[place];
        let mut same = self.live.iter().filter(|(own, _)| own == element);
        let live = match (same.next(), same.next()) {
            // Repeated items are not merged but replaced.
            (Some((_, live)), None) => Some(*live),
            _ => None,
        };
        out.extend(merge(self.form, live, Some(value))?);
        Ok(())
    }

    fn is_live(&self, element: &Element<'_>) -> bool {
        self.live.iter().any(|(own, _)| own == element)
    }

    fn config_value(&self, element: &Element<'_>) -> Option<&'a Value> {
        self.config.iter().find(|(own, _)| own == element).map(|(_, value)| *value)
    }
}
