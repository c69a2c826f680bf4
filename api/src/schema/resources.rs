//! Resources as discovery shows them, in discovery order, with their table columns.

use serde::Deserialize;

use super::types::TypeId;
use crate::GroupVersionKind;

/// An API group; its first version is the preferred one.
#[derive(Debug)]
pub struct Group {
    pub name: &'static str,
    pub versions: Vec<Version>,
}

/// One version of a group.
#[derive(Debug)]
pub struct Version {
    pub version: &'static str,
    pub resources: Vec<Resource>,
}

/// Group, version and kind as aggregated discovery writes them: group and version are empty when they are the
/// resource's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

impl From<[&'static str; 3]> for ResponseKind {
    fn from([group, version, kind]: [&'static str; 3]) -> Self {
        Self { group, version, kind }
    }
}

/// A resource in one version.
#[derive(Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    /// Plural, as in paths.
    pub name: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    /// What discovery says of the kind.
    pub response_kind: ResponseKind,
    pub namespaced: bool,
    /// Sorted, as discovery lists them.
    pub verbs: Vec<&'static str>,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    /// `storageVersionHash` of legacy discovery, empty when nothing is stored.
    pub storage_hash: &'static str,
    /// What is stored; None for virtual resources.
    pub storage: Option<ResponseKind>,
    /// Kind of the list, empty when the resource cannot be listed.
    pub list_kind: &'static str,
    /// A deletion that takes effect at once answers the object instead of a Status.
    pub returns_deleted: bool,
    /// The warning that every request gets; empty for most.
    pub deprecation: &'static str,
    pub subresources: Vec<Subresource>,
    pub columns: Vec<Column>,
    /// The type of the kind.
    pub type_id: Option<TypeId>,
}

impl Resource {
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Group, version and kind of the objects.
    pub fn gvk(&self) -> GroupVersionKind {
        let (group, version) = self.kind_home();
        GroupVersionKind::new(group, version, self.kind)
    }

    /// True when the kind lives in the resource's own group and version (all but a few virtual ones).
    pub fn is_own_kind(&self) -> bool {
        self.kind_home() == (self.group, self.version)
    }

    fn kind_home(&self) -> (&'static str, &'static str) {
        if self.response_kind.version.is_empty() {
            return (self.group, self.version);
        }
        (self.response_kind.group, self.response_kind.version)
    }
}

/// A path below a resource, such as `status`.
#[derive(Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// What discovery says of the kind.
    pub response_kind: ResponseKind,
    /// Group, version and kind of what the path answers, in full.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: Vec<&'static str>,
    pub accepts: Vec<ResponseKind>,
    /// Columns of its own (scale); empty when they are the resource's.
    pub columns: Vec<Column>,
    /// The type of the kind.
    pub type_id: Option<TypeId>,
}

/// A column of a table answer.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the name column.
    pub format: &'static str,
    /// 0 always shown, 1 with `-o wide`.
    pub priority: i32,
    pub description: &'static str,
}

// The file's own shape, see conformance/schema/record.go.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    groups: Vec<GroupRow<'a>>,
    descriptions: Vec<String>,
}

#[derive(Deserialize)]
struct GroupRow<'a> {
    name: &'a str,
    #[serde(borrow)]
    versions: Vec<VersionRow<'a>>,
}

#[derive(Deserialize)]
struct VersionRow<'a> {
    version: &'a str,
    #[serde(borrow)]
    resources: Vec<ResourceRow<'a>>,
}

type KindRow<'a> = [&'a str; 3];
type ColumnRow<'a> = (&'a str, &'a str, &'a str, i32, usize);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRow<'a> {
    name: &'a str,
    #[serde(borrow)]
    kind: KindRow<'a>,
    singular: &'a str,
    #[serde(default)]
    namespaced: bool,
    #[serde(borrow)]
    verbs: Vec<&'a str>,
    #[serde(default)]
    #[serde(borrow)]
    short_names: Vec<&'a str>,
    #[serde(default)]
    #[serde(borrow)]
    categories: Vec<&'a str>,
    #[serde(default)]
    storage_hash: &'a str,
    #[serde(borrow)]
    storage: Option<KindRow<'a>>,
    #[serde(default)]
    list: &'a str,
    #[serde(default)]
    returns_deleted: bool,
    #[serde(default)]
    deprecation: &'a str,
    #[serde(default)]
    #[serde(borrow)]
    subresources: Vec<SubresourceRow<'a>>,
    #[serde(default)]
    #[serde(borrow)]
    columns: Vec<ColumnRow<'a>>,
}

#[derive(Deserialize)]
struct SubresourceRow<'a> {
    name: &'a str,
    #[serde(borrow)]
    kind: KindRow<'a>,
    #[serde(borrow)]
    verbs: Vec<&'a str>,
    #[serde(default)]
    #[serde(borrow)]
    accepts: Vec<KindRow<'a>>,
    #[serde(default)]
    #[serde(borrow)]
    columns: Vec<ColumnRow<'a>>,
}

type KindLookup<'a> = &'a dyn Fn(&str, &str, &str) -> Option<TypeId>;

pub(super) fn load(text: &'static str, kinds: KindLookup<'_>) -> Vec<Group> {
    let file: File<'static> = serde_json::from_str(text).expect("the generator writes resources.json");
    // A few kilobytes of text that live as long as the table, which is the process.
    let descriptions: &'static [String] = Vec::leak(file.descriptions);
    let columns =
        |rows: Vec<ColumnRow<'static>>| rows.into_iter().map(|row| column(row, descriptions)).collect::<Vec<_>>();
    let mut groups = Vec::with_capacity(file.groups.len());
    for group in file.groups {
        let versions = group.versions.into_iter().map(|version| Version {
            version: version.version,
            resources: version
                .resources
                .into_iter()
                .map(|row| resource(group.name, version.version, row, kinds, &columns))
                .collect(),
        });
        groups.push(Group { name: group.name, versions: versions.collect() });
    }
    groups
}

fn column((name, kind, format, priority, text): ColumnRow<'static>, descriptions: &'static [String]) -> Column {
    Column { name, kind, format, priority, description: &descriptions[text] }
}

fn resource(
    group: &'static str,
    version: &'static str,
    row: ResourceRow<'static>,
    kinds: KindLookup<'_>,
    columns: &dyn Fn(Vec<ColumnRow<'static>>) -> Vec<Column>,
) -> Resource {
    let subresources = row.subresources.into_iter().map(|sub| {
        let (sub_group, sub_version) = home(sub.kind.into(), group, version);
        Subresource {
            name: sub.name,
            response_kind: sub.kind.into(),
            group: sub_group,
            version: sub_version,
            kind: sub.kind[2],
            verbs: sub.verbs,
            accepts: sub.accepts.into_iter().map(ResponseKind::from).collect(),
            columns: columns(sub.columns),
            type_id: kinds(sub_group, sub_version, sub.kind[2]),
        }
    });
    let (kind_group, kind_version) = home(row.kind.into(), group, version);
    Resource {
        group,
        version,
        name: row.name,
        singular: row.singular,
        kind: row.kind[2],
        response_kind: row.kind.into(),
        namespaced: row.namespaced,
        verbs: row.verbs,
        short_names: row.short_names,
        categories: row.categories,
        storage_hash: row.storage_hash,
        storage: row.storage.map(ResponseKind::from),
        list_kind: row.list,
        returns_deleted: row.returns_deleted,
        deprecation: row.deprecation,
        subresources: subresources.collect(),
        columns: columns(row.columns),
        type_id: kinds(kind_group, kind_version, row.kind[2]),
    }
}

fn home(kind: ResponseKind, group: &'static str, version: &'static str) -> (&'static str, &'static str) {
    if kind.version.is_empty() { (group, version) } else { (kind.group, kind.version) }
}
