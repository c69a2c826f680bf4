//! The schema table: what every built-in type, field and resource of the release is, as upstream publishes it.
//!
//! The facts are generated (`conformance/schema`) and checked in under `api/data`; this module loads them once,
//! on first use, in about a millisecond, and borrows all text from the binary. On top of the table stand:
//!
//! - [`Table`]: resources by name and in discovery order, types by kind or id, fields by JSON name;
//! - [`decode`], [`decode_value`]: a body becomes the tree that upstream's decoder and encoder would leave: checked
//!   JSON types, unknown and duplicate fields reported, absent values added or dropped as Go does;
//! - [`is_settled`]: whether that would change anything;
//! - [`decode_body`]: the same for a request, with upstream's 400 answers;
//! - [`parse_untyped`]: a document of no type, with its repeated keys;
//! - [`apply_defaults`]: the defaults that are declared on fields (a kind's other defaults live in `kinds`);
//! - [`recorded`]: the objects that a fresh upstream server holds.

pub(crate) mod body;
mod decode;
mod defaults;
pub(crate) mod normal;
mod parse;
pub mod recorded;
mod resources;
mod scalar;
mod settled;
mod syntax;
mod types;
mod untyped;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::GroupVersionKind;

pub use body::{Body, SCHEME, TypeMeta, decode_body, interpret};
pub use decode::{DecodeError, Decoded, decode, decode_value};
pub(crate) use decode::{convert_borrowed, decode_borrowed};
pub use defaults::apply_defaults;
pub(crate) use normal::zero;
pub use resources::{Column, Group, Resource, ResponseKind, Subresource, Version};
pub use settled::is_settled;
pub use syntax::check_syntax;
pub use types::{Field, ListType, Shape, Type, TypeId};
pub use untyped::parse_untyped;

/// The release that the table describes.
pub const RELEASE: &str = "v1.37";

/// All facts of the release. Get it from [`table`].
pub struct Table {
    types: Vec<Type>,
    by_id: HashMap<&'static str, TypeId>,
    by_kind: HashMap<&'static str, Vec<KindEntry>>,
    groups: Vec<Group>,
    resources: HashMap<&'static str, Vec<(usize, usize, usize)>>,
}

struct KindEntry {
    group: &'static str,
    version: &'static str,
    id: TypeId,
}

/// The table, loaded on the first call.
///
/// # Panics
/// When the checked-in data is damaged, which a test of this crate rules out.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::load(include_str!("../data/types.tsv"), include_str!("../data/resources.json")))
}

impl Table {
    fn load(types: &'static str, resources: &'static str) -> Self {
        let parsed = parse::types(types);
        let mut by_kind: HashMap<&'static str, Vec<KindEntry>> = HashMap::new();
        for (index, one) in parsed.types.iter().enumerate() {
            for [group, version, kind] in one.kinds() {
                let entry = KindEntry { group, version, id: TypeId::new(index) };
                by_kind.entry(kind).or_default().push(entry);
            }
        }
        let groups = resources::load(resources, &|group, version, kind| find_kind(&by_kind, group, version, kind));
        let mut index: HashMap<&'static str, Vec<(usize, usize, usize)>> = HashMap::new();
        for (g, group) in groups.iter().enumerate() {
            for (v, version) in group.versions.iter().enumerate() {
                for (r, resource) in version.resources.iter().enumerate() {
                    index.entry(resource.name).or_default().push((g, v, r));
                }
            }
        }
        Self { types: parsed.types, by_id: parsed.by_id, by_kind, groups, resources: index }
    }

    /// The API groups in discovery order, the core group first, each with its versions by preference.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// One group's entry.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Every resource of every version, in discovery order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.resources)
    }

    /// The resource that a path names, such as `("apps", "v1", "deployments")`.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        let places = self.resources.get(plural)?;
        places
            .iter()
            .map(|&(g, v, r)| &self.groups[g].versions[v].resources[r])
            .find(|resource| resource.group == group && resource.version == version)
    }

    /// The resource that serves a kind (not a list, not a subresource's kind).
    pub fn resource_of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources().find(|resource| {
            resource.kind == kind && resource.group == group && resource.version == version && resource.is_own_kind()
        })
    }

    /// The type of a kind. Kinds of `meta.k8s.io` that every group has (`DeleteOptions`, `Status`, ...) are found
    /// under the group `""` and version `v1`.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        find_kind(&self.by_kind, &gvk.group, &gvk.version, &gvk.kind)
    }

    /// As [`Table::kind`], for borrowed names.
    pub fn type_of(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        find_kind(&self.by_kind, group, version, kind)
    }

    /// A type by its OpenAPI name without `io.k8s.`, such as `api.core.v1.Pod`.
    pub fn type_by_id(&self, id: &str) -> Option<TypeId> {
        self.by_id.get(id).copied()
    }

    /// The type behind a handle.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.index()]
    }

    /// All types, sorted by id.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// The field at a dotted path of plain field names, through lists and maps: `spec.containers.ports`.
    pub fn field_at(&self, id: TypeId, path: &str) -> Option<&Field> {
        let mut current = self.get(id);
        let mut names = path.split('.').peekable();
        loop {
            let field = current.field(names.next()?)?;
            if names.peek().is_none() {
                return Some(field);
            }
            current = self.get(field.shape.innermost_type()?);
        }
    }
}

/// An object of a type of which nothing is said: what Go's encoder writes for an empty struct.
pub fn empty_object(id: TypeId) -> serde_json::Value {
    zero(&Shape::Ref(id))
}

fn find_kind(
    by_kind: &HashMap<&'static str, Vec<KindEntry>>,
    group: &str,
    version: &str,
    kind: &str,
) -> Option<TypeId> {
    let entries = by_kind.get(kind)?;
    entries.iter().find(|entry| entry.group == group && entry.version == version).map(|entry| entry.id)
}

#[cfg(test)]
mod tests;
