//! What differs between two states of an object, as sets of paths.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{Element, compare_values};
use super::form::{Form, Merge, name_item};
use super::set::{Node, Set};
use crate::schema::Shape;

/// The paths that differ. No path is in two of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison<'a> {
    /// In the old state only.
    pub(super) removed: Set<'a>,
    /// In both, with different values.
    pub(super) modified: Set<'a>,
    /// In the new state only.
    pub(super) added: Set<'a>,
}

impl Comparison<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// What became of a value itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Removed,
    Modified,
    Added,
}

/// Compares two states of an object; None when one does not fit the form.
pub(super) fn compare<'a>(form: Form, old: &'a Value, new: &'a Value) -> Option<Comparison<'a>> {
    let mut walk = Walk { misfits: false };
    let (_, below) = walk.value(form, Some(old), Some(new));
    (!walk.misfits).then_some(below)
}

struct Walk {
    misfits: bool,
}

type Found<'a> = (Option<Change>, Comparison<'a>);

impl Walk {
    fn value<'a>(&mut self, form: Form, old: Option<&'a Value>, new: Option<&'a Value>) -> Found<'a> {
        match (old, new) {
            (None, Some(new)) => {
                return (Some(Change::Added), Comparison { added: self.below(form, new), ..Comparison::default() });
            }
            (Some(old), None) => {
                return (Some(Change::Removed), Comparison { removed: self.below(form, old), ..Comparison::default() });
            }
            _ => {}
        }
        match form {
            Form::Scalar(_) | Form::Whole => leaf(old, new),
            Form::Struct { atomic: true, .. } | Form::Map { atomic: true, .. } => leaf(old, new),
            Form::Struct { .. } | Form::Map { .. } => self.entries(form, old, new),
            Form::List { merge: Merge::Whole, .. } => leaf(old, new),
            Form::List { item, merge } => self.list((item, merge), old, new),
            Form::Open => self.open(old, new),
        }
    }

    /// All paths below a value that only one of the states has.
    fn below<'a>(&mut self, form: Form, value: &'a Value) -> Set<'a> {
        if form.is_leaf(value) {
            return Set::default();
        }
        match (form, value) {
            (Form::List { item, merge }, Value::Array(items)) => self.items_below((item, merge), items),
            (Form::List { .. }, _) => Set::default(),
            (_, Value::Object(entries)) => {
                let mut nodes = Vec::with_capacity(entries.len());
                for (name, value) in entries {
                    match form.entry(name) {
                        Some((form, _)) => nodes.push(whole(Element::Field(name.into()), self.below(form, value))),
                        None => self.misfits = true,
                    }
                }
                Set::of(nodes)
            }
            _ => Set::default(),
        }
    }

    fn items_below<'a>(&mut self, of: (&'static Shape, Merge), items: &'a [Value]) -> Set<'a> {
        let mut named = self.named(of, items, true);
        if !named.is_sorted_by(|a, b| a.0 <= b.0) {
            named.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let form = Form::item(of.0);
        let mut nodes = Vec::with_capacity(named.len());
        let mut named = named.into_iter().peekable();
        while let Some((element, value, _)) = named.next() {
            let mut repeated = false;
            while named.next_if(|(next, ..)| *next == element).is_some() {
                repeated = true;
            }
            // Repeated items are owned as one.
            let below = if repeated { Set::default() } else { self.below(form, value) };
            nodes.push(whole(element, below));
        }
        Set::of(nodes)
    }

    /// A value of no type is compared as what it is; one that became something else, as both.
    fn open<'a>(&mut self, old: Option<&'a Value>, new: Option<&'a Value>) -> Found<'a> {
        let is_map = |value: Option<&Value>| value.is_none_or(|value| matches!(value, Value::Object(_) | Value::Null));
        match (is_map(old), is_map(new)) {
            (true, true) => self.entries(Form::Open, old, new),
            (false, false) => leaf(old, new),
            _ => {
                let (_, below) = self.entries(Form::Open, old, new);
                (leaf(old, new).0, below)
            }
        }
    }

    fn entries<'a>(&mut self, form: Form, old: Option<&'a Value>, new: Option<&'a Value>) -> Found<'a> {
        let of = |value: Option<&'a Value>| value.and_then(Value::as_object);
        let (before, after) = (of(old), of(new));
        if before.is_none_or(Map::is_empty) && after.is_none_or(Map::is_empty) {
            return leaf(old, new);
        }
        let mut found = Gathered::default();
        for (name, old, new) in zip(before, after) {
            let Some((form, _)) = form.entry(name) else {
                self.misfits = true;
                continue;
            };
            let (own, below) = self.value(form, old, new);
            found.add(&Element::Field(name.into()), own, below);
        }
        (presence(old, new), found.comparison())
    }

    fn list<'a>(&mut self, of: (&'static Shape, Merge), old: Option<&'a Value>, new: Option<&'a Value>) -> Found<'a> {
        let items = |value: Option<&'a Value>| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (before, after) = (items(old), items(new));
        if before.is_empty() && after.is_empty() {
            return leaf(old, new);
        }
        let mut named = self.named(of, before, false);
        named.append(&mut self.named(of, after, true));
        // Stable: items of one name stay in their order, the old ones first.
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let form = Form::item(of.0);
        let mut found = Gathered::default();
        for same in named.chunk_by(|a, b| a.0 == b.0) {
            let split = same.iter().take_while(|(_, _, fresh)| !fresh).count();
            let (old, new) = same.split_at(split);
            self.item(form, &same[0].0, (old, new), &mut found);
        }
        (presence(old, new), found.comparison())
    }

    fn named<'a>(&mut self, (item, merge): (&'static Shape, Merge), items: &'a [Value], fresh: bool) -> Vec<Named<'a>> {
        let mut named = Vec::with_capacity(items.len());
        for value in items {
            match name_item(item, merge, value) {
                Ok(element) => named.push((element, value, fresh)),
                Err(_) => self.misfits = true,
            }
        }
        named
    }

    /// Items of one name. Repeated items are owned as one.
    fn item<'a>(
        &mut self,
        form: Form,
        element: &Element<'a>,
        (old, new): (&[Named<'a>], &[Named<'a>]),
        found: &mut Gathered<'a>,
    ) {
        let first = |items: &[Named<'a>]| items.first().map(|(_, value, _)| *value);
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => {
                let (own, below) = self.value(form, first(old), first(new));
                found.add(element, own, below);
            }
            (2.., 2..) => {
                let same = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| is_same(a.1, b.1));
                found.add(element, (!same).then_some(Change::Modified), Comparison::default());
            }
            (2.., _) => {
                let below = first(new).map(|new| self.value(form, None, Some(new)).1).unwrap_or_default();
                let own = (!new.is_empty()).then_some(Change::Added);
                found.add(element, own, below);
                found.removed.push(Node { element: element.clone(), member: true, below: Set::default() });
            }
            (_, 2..) => {
                let below = first(old).map(|old| self.value(form, Some(old), None).1).unwrap_or_default();
                let own = (!old.is_empty()).then_some(Change::Removed);
                found.add(element, own, below);
                found.added.push(Node { element: element.clone(), member: true, below: Set::default() });
            }
        }
    }
}

/// An item's name, the item, and whether it is of the new state.
type Named<'a> = (Element<'a>, &'a Value, bool);

/// Nodes of the three sets of one object.
#[derive(Default)]
struct Gathered<'a> {
    removed: Vec<Node<'a>>,
    modified: Vec<Node<'a>>,
    added: Vec<Node<'a>>,
}

impl<'a> Gathered<'a> {
    fn add(&mut self, element: &Element<'a>, own: Option<Change>, below: Comparison<'a>) {
        let push = |nodes: &mut Vec<Node<'a>>, change: Change, below: Set<'a>| {
            let member = own == Some(change);
            if member || !below.is_empty() {
                nodes.push(Node { element: element.clone(), member, below });
            }
        };
        push(&mut self.removed, Change::Removed, below.removed);
        push(&mut self.modified, Change::Modified, below.modified);
        push(&mut self.added, Change::Added, below.added);
    }

    fn comparison(self) -> Comparison<'a> {
        Comparison { removed: Set::of(self.removed), modified: Set::of(self.modified), added: Set::of(self.added) }
    }
}

/// A step to a value that is there as a whole.
fn whole<'a>(element: Element<'a>, below: Set<'a>) -> Node<'a> {
    Node { element, member: true, below }
}

/// A value that is owned as one.
fn leaf<'a>(old: Option<&'a Value>, new: Option<&'a Value>) -> Found<'a> {
    let own = match (old, new) {
        (Some(old), Some(new)) => (!is_same(old, new)).then_some(Change::Modified),
        _ => presence(old, new),
    };
    (own, Comparison::default())
}

fn presence(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        _ => None,
    }
}

/// Equal as values are for upstream: 1 and 1.0 are.
pub(super) fn is_same(one: &Value, two: &Value) -> bool {
    one == two || compare_values(one, two) == Ordering::Equal
}

/// The entries of two maps side by side, by name.
fn zip<'a>(
    one: Option<&'a Map<String, Value>>,
    two: Option<&'a Map<String, Value>>,
) -> impl Iterator<Item = (&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let mut one = one.into_iter().flatten().peekable();
    let mut two = two.into_iter().flatten().peekable();
    std::iter::from_fn(move || {
        let order = match (one.peek(), two.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let old = order.is_le().then(|| one.next()).flatten();
        let new = order.is_ge().then(|| two.next()).flatten();
        let name = old.or(new).map(|(name, _)| name.as_str())?;
        Some((name, old.map(|(_, value)| value), new.map(|(_, value)| value)))
    })
}
