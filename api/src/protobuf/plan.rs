//! Which field numbers a type has, in their order, with the messages that Go inlines.

use std::sync::OnceLock;

use crate::schema::{Field, Type, TypeId, table};

/// A field number of a message.
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) target: Target,
}

/// What is under a field number.
pub(super) enum Target {
    /// A field, by its place in the type.
    Field(usize),
    /// A message of its own whose fields are fields of the type.
    Inlined(Vec<Entry>),
}

/// The field numbers of a type, lowest first. Made when the type is first met.
pub(super) fn plan(id: TypeId) -> &'static [Entry] {
    static PLANS: OnceLock<Vec<OnceLock<Vec<Entry>>>> = OnceLock::new();
    let plans = PLANS.get_or_init(|| table().types().iter().map(|_| OnceLock::new()).collect());
    plans[id.index()].get_or_init(|| make(table().get(id)))
}

fn make(of: &Type) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (place, field) in of.fields.iter().enumerate().filter(|(_, field)| !is_type_meta(field)) {
        let Some((path, _)) = field.protobuf() else { continue };
        insert(&mut entries, &path.collect::<Vec<_>>(), place);
    }
    entries
}

/// Kind and API version of a whole object stand in its envelope, although Go's tags number them.
fn is_type_meta(field: &Field) -> bool {
    field.inlined_in() == Some("TypeMeta")
}

fn insert(entries: &mut Vec<Entry>, path: &[u32], place: usize) {
    let Some((&number, below)) = path.split_first() else { return };
    let at = entries.partition_point(|entry| entry.number < number);
    if below.is_empty() {
        entries.insert(at, Entry { number, target: Target::Field(place) });
        return;
    }
    if entries.get(at).is_none_or(|entry| entry.number != number) {
        entries.insert(at, Entry { number, target: Target::Inlined(Vec::new()) });
    }
    if let Target::Inlined(inner) = &mut entries[at].target {
        insert(inner, below, place);
    }
}
