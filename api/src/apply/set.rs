//! Sets of paths, as tries, and their FieldsV1 form.
//!
//! A node says of one step whether the path that ends there is in the set, and which paths go on from it. Siblings are
//! sorted; a node that says nothing is not kept. Names are borrowed from what the set was read or computed from.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::element::Element;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set<'a> {
    nodes: Vec<Node<'a>>,
}

/// A step, whether the path to it is in the set, and the paths below.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) element: Element<'a>,
    pub(super) member: bool,
    pub(super) below: Set<'a>,
}

impl<'a> Node<'a> {
    fn says_something(&self) -> bool {
        self.member || !self.below.is_empty()
    }

    /// Takes what a later mention of the same step says. It is one step then.
    fn become_later(&mut self, later: &mut Self) -> bool {
        self.member |= later.member;
        self.below = std::mem::take(&mut later.below);
        true
    }
}

impl<'a> Set<'a> {
    /// A set of nodes, of which no two have the same step, in any order.
    pub(super) fn of(mut nodes: Vec<Node<'a>>) -> Self {
        nodes.retain(Node::says_something);
        if !nodes.is_sorted_by(|a, b| a.element < b.element) {
            nodes.sort_by(|a, b| a.element.cmp(&b.element));
        }
        Self { nodes }
    }

    /// A set of one path of fields.
    pub(super) fn path(fields: &[&'static str]) -> Self {
        let Some((first, rest)) = fields.split_first() else { return Self::default() };
        let below = Self::path(rest);
        Self { nodes: vec![Node { element: Element::Field(Cow::Borrowed(first)), member: rest.is_empty(), below }] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    pub(super) fn get(&self, element: &Element<'_>) -> Option<&Node<'a>> {
        let at = self.nodes.binary_search_by(|node| node.element.cmp(element)).ok()?;
        Some(&self.nodes[at])
    }

    /// True when the path of plain fields is in the set.
    pub(super) fn has(&self, fields: &[&'static str]) -> bool {
        let Some((first, rest)) = fields.split_first() else { return false };
        let node = self.get(&Element::Field(Cow::Borrowed(first)));
        node.is_some_and(|node| if rest.is_empty() { node.member } else { node.below.has(rest) })
    }

    /// As [`Self::union`], without a copy when one set is empty.
    pub(super) fn joined(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => self.union(&other),
        }
    }

    /// This set without paths of fields and, when `below` says so, without what is below them.
    pub(super) fn without(mut self, paths: &[&[&'static str]], below: bool) -> Self {
        paths.iter().for_each(|path| self.cut(path, below));
        self
    }

    fn cut(&mut self, path: &[&'static str], below: bool) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::Field(Cow::Borrowed(first));
        let Ok(at) = self.nodes.binary_search_by(|node| node.element.cmp(&element)) else { return };
        let node = &mut self.nodes[at];
        if !rest.is_empty() {
            node.below.cut(rest, below);
        } else {
            node.member = false;
            if below {
                node.below = Set::default();
            }
        }
        if !node.says_something() {
            self.nodes.remove(at);
        }
    }

    /// As [`Self::difference`], in place: what is taken is mostly little.
    pub(super) fn subtract(&mut self, other: &Set<'_>) {
        let mut emptied = false;
        for taken in &other.nodes {
            let Ok(at) = self.nodes.binary_search_by(|node| node.element.cmp(&taken.element)) else { continue };
            let node = &mut self.nodes[at];
            node.member &= !taken.member;
            node.below.subtract(&taken.below);
            emptied |= !node.says_something();
        }
        // All at once: each removal alone would move everything behind it.
        if emptied {
            self.nodes.retain(Node::says_something);
        }
    }

    /// Paths of either set.
    pub(super) fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, |one, two| match (one, two) {
            (Some(one), Some(two)) => {
                let below = one.below.union(&two.below);
                Some(Node { element: one.element.clone(), member: one.member || two.member, below })
            }
            (one, two) => one.or(two).cloned(),
        })
    }

    /// Paths of both sets.
    pub(super) fn intersection(&self, other: &Set<'_>) -> Self {
        self.zip(other, |one, two| {
            let (one, two) = (one?, two?);
            let below = one.below.intersection(&two.below);
            Some(Node { element: one.element.clone(), member: one.member && two.member, below })
        })
    }

    /// Paths of this set that are not in the other.
    pub(super) fn difference(&self, other: &Set<'_>) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, |one, two| {
            let (one, Some(two)) = (one?, two) else { return one.cloned() };
            let below = one.below.difference(&two.below);
            Some(Node { element: one.element.clone(), member: one.member && !two.member, below })
        })
    }

    /// Walks both sets side by side, in order.
    fn zip<'b>(
        &self,
        other: &Set<'b>,
        merge: impl Fn(Option<&Node<'a>>, Option<&Node<'b>>) -> Option<Node<'a>>,
    ) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let (mut i, mut j) = (0, 0);
        loop {
            let (one, two) = (self.nodes.get(i), other.nodes.get(j));
            let order = match (one, two) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(two)) => one.element.cmp(&two.element),
            };
            let one = one.filter(|_| order.is_le());
            let two = two.filter(|_| order.is_ge());
            i += usize::from(one.is_some());
            j += usize::from(two.is_some());
            nodes.extend(merge(one, two).filter(Node::says_something));
        }
        Self { nodes }
    }

    /// Keeps what a pattern reaches: see [`Pattern`].
    pub(super) fn matching(&self, patterns: &[Pattern<'_>]) -> Self {
        let kept = self.nodes.iter().filter_map(|node| {
            let mut rest = Vec::new();
            for pattern in patterns {
                let Some((first, more)) = pattern.split_first() else { return Some(node.clone()) };
                let fits = match first {
                    Some(name) => matches!(&node.element, Element::Field(own) if own == name),
                    None => true,
                };
                if fits && more.is_empty() {
                    return Some(node.clone());
                }
                if fits {
                    rest.push(more);
                }
            }
            (!rest.is_empty()).then(|| Node {
                element: node.element.clone(),
                member: node.member,
                below: node.below.matching(&rest),
            })
        });
        Self { nodes: kept.filter(Node::says_something).collect() }
    }

    /// Calls `each` with every path, an object's own fields before what is below them.
    pub(super) fn each_path(&self, prefix: &str, each: &mut dyn FnMut(String)) {
        for node in self.nodes.iter().filter(|node| node.member) {
            each(format!("{prefix}{}", node.element));
        }
        for node in self.nodes.iter().filter(|node| !node.below.is_empty()) {
            node.below.each_path(&format!("{prefix}{}", node.element), each);
        }
    }

    /// Writes FieldsV1.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.write_with(out, false);
    }

    fn write_with(&self, out: &mut Vec<u8>, and_self: bool) {
        out.push(b'{');
        let mut first = true;
        if and_self && !self.is_empty() {
            out.extend_from_slice(b"\".\":{}");
            first = false;
        }
        for node in &self.nodes {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            node.element.write(out);
            out.push(b':');
            node.below.write_with(out, node.member);
        }
        out.push(b'}');
    }
}

/// A path of which everything below is meant; None stands for any step.
pub(super) type Pattern<'p> = &'p [Option<&'static str>];

/// Reads FieldsV1.
pub(super) fn read_set<'de, D: Deserializer<'de>>(reader: D) -> Result<Set<'de>, D::Error> {
    Trie.deserialize(reader).map(|(set, _)| set)
}

/// Reads an object of FieldsV1: the set below it, and whether it is a member itself.
struct Trie;

impl<'de> DeserializeSeed<'de> for Trie {
    type Value = (Set<'de>, bool);

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Trie {
    type Value = (Set<'de>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of path elements")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((Set::default(), true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut nodes: Vec<Node<'de>> = Vec::new();
        let (mut member, mut sorted) = (false, true);
        while let Some(key) = entries.next_key::<Text<'de>>()? {
            if key.0 == "." {
                member = true;
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let Some(element) = Element::parse(key.0).map_err(serde::de::Error::custom)? else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let (below, member) = entries.next_value_seed(Trie)?;
            sorted &= nodes.last().is_none_or(|last| last.element < element);
            nodes.push(Node { element, member, below });
        }
        // Once, and only for what others wrote: a place found for each would move everything behind it.
        if !sorted {
            nodes.sort_by(|a, b| a.element.cmp(&b.element));
            nodes.dedup_by(|later, kept| later.element == kept.element && kept.become_later(later));
        }
        let member = member || nodes.is_empty();
        Ok((Set { nodes }, member))
    }
}

/// A key, borrowed when it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
