//! One write's effect on managed fields.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::compare::{Comparison, compare, is_same};
use super::conflict::{Conflict, Error};
use super::form::Form;
use super::managers::{self, Entry, Operation};
use super::prune::with_named_fields;
use super::set::Set;
use super::{last_applied, merge, prune, validate};
use crate::schema::{self, TypeId};
use crate::{GroupVersionKind, meta};

/// Paths that are never owned.
const STRIPPED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What a request at a path cannot change, whatever it says: nobody owns it by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Everything can be changed.
    Nothing,
    /// These paths, with everything below, cannot.
    Below(&'static [&'static [&'static str]]),
    /// Only what is below these paths can; None stands for any step.
    AllBut(&'static [&'static [Option<&'static str>]]),
}

impl Reset {
    fn filter<'a>(self, set: Set<'a>) -> Set<'a> {
        match self {
            Self::Nothing => set,
            Self::Below(paths) => set.without(paths, true),
            Self::AllBut(patterns) => set.matching(patterns),
        }
    }
}

/// The other versions of a kind.
pub trait Versions {
    /// The object in another version, with that version's type; None when the version is not served.
    fn convert(&self, object: &Value, version: &str) -> Option<(Value, TypeId)>;
}

/// One request's manager and what it writes.
pub struct Tracker<'r> {
    /// The kind of the request's objects.
    pub gvk: &'r GroupVersionKind,
    pub type_id: TypeId,
    /// Empty for the object itself.
    pub subresource: &'r str,
    /// The manager's name; empty is `unknown`.
    pub manager: &'r str,
    pub now: Timestamp,
    pub reset: Reset,
    pub versions: &'r dyn Versions,
}

/// The result of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The merged object, not yet defaulted; None when it is the live one.
    pub object: Option<Value>,
    /// The managed fields.
    pub managed: Vec<u8>,
}

impl Tracker<'_> {
    /// The managed fields of a new object, as a create leaves them; `managed` is what its client gave.
    pub fn create(&self, new: &Value, managed: &str) -> Vec<u8> {
        let nothing = schema::empty_object(self.type_id);
        let Some(changes) = compare(Form::object(self.type_id), &nothing, new) else { return Vec::new() };
        let entries = managers::decode(managed).unwrap_or_default();
        managers::encode(self.updated((&nothing, new), entries, self.filtered(changes)))
    }

    /// The managed fields after an update; None when they stay as they are.
    pub fn update(&self, live: &Value, new: &Value, managed: &str) -> Option<Vec<u8>> {
        if managed.is_empty() {
            return None;
        }
        let changes = self.filtered(compare(Form::object(self.type_id), live, new)?);
        if changes.is_empty() {
            return None;
        }
        let entries = managers::decode(managed).unwrap_or_default();
        if entries.is_empty() {
            return Some(Vec::new());
        }
        Some(managers::encode(self.updated((live, new), entries, changes)))
    }

    /// Gives what changed to the manager and takes it from the others.
    fn updated<'a>(
        &'a self,
        (live, new): (&Value, &Value),
        entries: Vec<Entry<'a>>,
        changes: Comparison<'a>,
    ) -> Vec<Entry<'a>> {
        let comparisons = Comparisons { tracker: self, live, new, own: &changes };
        let mut entries: Vec<Entry<'a>> =
            entries.into_iter().filter_map(|entry| comparisons.without_changes(entry)).collect();
        let set = changes.modified.joined(changes.added).without(&STRIPPED, false);
        if !set.is_empty() {
            self.credit(&mut entries, self.entry(self.manager, Operation::Update, set));
        }
        managers::cap(&mut entries);
        entries
    }

    /// Adds paths to those of their manager.
    fn credit<'a>(&self, entries: &mut Vec<Entry<'a>>, mut fresh: Entry<'a>) {
        fresh.time = Some(Cow::Owned(crate::time::seconds(self.now)));
        match entries.iter_mut().find(|entry| entry.is_same_manager(&fresh)) {
            Some(entry) => {
                fresh.set = fresh.set.joined(std::mem::take(&mut entry.set));
                *entry = fresh;
            }
            None => entries.push(fresh),
        }
    }

    fn entry<'a>(&'a self, manager: &'a str, operation: Operation, set: Set<'a>) -> Entry<'a> {
        Entry {
            manager: Cow::Borrowed(if manager.is_empty() { "unknown" } else { manager }),
            operation,
            api_version: Cow::Owned(self.gvk.api_version()),
            subresource: Cow::Borrowed(self.subresource),
            time: None,
            set,
        }
    }

    fn filtered<'a>(&self, changes: Comparison<'a>) -> Comparison<'a> {
        Comparison {
            removed: self.reset.filter(changes.removed),
            modified: self.reset.filter(changes.modified),
            added: self.reset.filter(changes.added),
        }
    }

    /// Merges a configuration into the live object.
    ///
    /// # Errors
    /// When the configuration does not fit, or says otherwise than another manager and `force` is not set.
    pub fn apply(&self, live: &Value, config: &Value, managed: &str, force: bool) -> Result<Applied, Error> {
        self.check_config(config)?;
        let mut applied = match self.merged(live, config, managed, force) {
            Err(Error::Conflicts(conflicts)) if self.manager == last_applied::MANAGER => {
                // An object from before server-side apply is taken over without conflicts.
                let left = last_applied::conflicts_left(self, live, conflicts.clone());
                match left {
                    None => return Err(Error::Conflicts(conflicts)),
                    Some(left) if !left.is_empty() => return Err(Error::Conflicts(left)),
                    Some(_) => self.merged(live, config, managed, true)?,
                }
            }
            outcome => outcome?,
        };
        if self.manager == last_applied::MANAGER {
            last_applied::renew(&mut applied.object, live, config);
        }
        Ok(applied)
    }

    fn check_config(&self, config: &Value) -> Result<(), Error> {
        let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or("");
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version != self.gvk.api_version() || kind != self.gvk.kind {
            let shown = if api_version.contains('/') { api_version.to_owned() } else { format!("/{api_version}") };
            return Err(Error::BadRequest(format!("invalid object type: {shown}, Kind={kind}")));
        }
        if meta::metadata(config).is_some_and(|metadata| metadata.get("managedFields").is_some_and(|v| !v.is_null())) {
            return Err(Error::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        if let Some(what) = validate::misfits(Form::object(self.type_id), config) {
            let named = self.named(config);
            return Err(Error::Other(format!("failed to create typed patch object ({named}): {what}")));
        }
        Ok(())
    }

    /// An object as upstream's messages name it.
    pub fn named(&self, object: &Value) -> String {
        let GroupVersionKind { group, version, kind } = self.gvk;
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        format!("{namespace}/{name}; {group}/{version}, Kind={kind}")
    }

    fn merged(&self, live: &Value, config: &Value, managed: &str, force: bool) -> Result<Applied, Error> {
        let decoded = managers::decode(managed);
        let mut entries = decoded.map_err(|e| Error::Other(format!("failed to decode managed fields: {e}")))?;
        let form = Form::object(self.type_id);
        let nothing = schema::empty_object(self.type_id);
        if entries.is_empty() {
            let changes = compare(form, &nothing, live).unwrap_or_default();
            let set = self.filtered(changes).added.without(&STRIPPED, false);
            if !set.is_empty() {
                self.credit(&mut entries, self.entry(BEFORE_FIRST_APPLY, Operation::Update, set));
            }
        }
        let merged = merge::merge(form, Some(live), Some(config));
        let merged = merged.map_err(|error| Error::Other(format!("failed to merge config: {error}")))?;
        let merged = merged.unwrap_or_default();
        let mut own = self.entry(self.manager, Operation::Apply, self.reset.filter(prune::field_set(form, config)));
        let at = entries.iter().position(|entry| entry.is_same_manager(&own));
        let last = at.map(|at| entries.remove(at));
        own.time = last.as_ref().and_then(|last| last.time.clone());
        entries.push(own);
        let object = match &last {
            Some(last) if !last.set.is_empty() => self.pruned(merged, last, &entries),
            _ => merged,
        };
        let changes = compare(form, live, &object).ok_or_else(|| Error::Other("failed to compare objects".into()))?;
        let changes = self.filtered(changes);
        let comparisons = Comparisons { tracker: self, live, new: &object, own: &changes };
        let own = entries.pop().expect("pushed above");
        comparisons.refuse_conflicts(&entries, force)?;
        let kept = entries.into_iter().filter_map(|entry| comparisons.without_changes(entry));
        let mut entries: Vec<Entry<'_>> = kept.collect();
        let differs = !is_same(live, &object);
        let set = own.set.without(&STRIPPED, false);
        if !set.is_empty() {
            let time = if differs { Some(Cow::Owned(crate::time::seconds(self.now))) } else { own.time };
            entries.push(Entry { set, time, ..own });
        }
        let managed = managers::encode(entries);
        let object = differs.then(|| self.fitted(&object, config)).transpose()?;
        Ok(Applied { object, managed })
    }

    /// A merged object as decoding would have left it.
    fn fitted(&self, merged: &Value, config: &Value) -> Result<Value, Error> {
        let GroupVersionKind { group, version, kind } = self.gvk;
        let decoded = schema::convert_borrowed(merged, self.type_id).map_err(|error| {
            let (named, gvk) = (self.named(config), format!("{group}/{version}, Kind={kind}"));
            let what = format!("unable to convert unstructured object to {gvk}: {error}");
            Error::Other(format!("failed to convert new object ({named}) to proper version: {what}"))
        })?;
        Ok(decoded.value)
    }

    /// Takes out what the manager said last time and nobody says now.
    fn pruned(&self, merged: Value, last: &Entry<'_>, entries: &[Entry<'_>]) -> Value {
        let (here, home) = (self.gvk.api_version(), &*last.api_version);
        let Some((merged, form)) = self.in_version(&merged, &here, home) else { return merged };
        let said = with_named_fields(form, &last.set);
        let mut pruned = prune::remove(form, &merged, &said);
        let mut versions: Vec<&str> = entries.iter().map(|entry| &*entry.api_version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions.sort_by_key(|version| *version != home);
        for version in versions {
            let owned = entries.iter().filter(|entry| entry.api_version == version);
            let owned = owned.fold(Set::default(), |all, entry| all.union(&entry.set));
            let converted = (self.in_version(&merged, home, version), self.in_version(&pruned, home, version));
            let (Some((whole, form)), Some((part, _))) = converted else { continue };
            let kept = with_named_fields(form, &prune::field_set(form, &part));
            let kept = kept.union(&with_named_fields(form, &owned));
            let gone = with_named_fields(form, &prune::field_set(form, &whole)).difference(&kept);
            let part = prune::remove(form, &whole, &gone);
            pruned = self.in_version(&part, version, home).map_or(pruned, |(part, _)| part);
        }
        let left = with_named_fields(form, &prune::field_set(form, &pruned));
        let gone = with_named_fields(form, &prune::field_set(form, &merged)).difference(&left);
        let result = prune::remove(form, &merged, &gone.intersection(&said));
        self.in_version(&result, home, &here).map_or(result, |(result, _)| result)
    }

    /// An object of one version in another.
    fn in_version(&self, object: &Value, from: &str, to: &str) -> Option<(Value, Form)> {
        if from == to {
            let id = if to == self.gvk.api_version() { Some(self.type_id) } else { self.type_of(to) };
            return Some((object.clone(), Form::object(id?)));
        }
        let (converted, id) = self.versions.convert(object, to)?;
        Some((converted, Form::object(id)))
    }

    fn type_of(&self, version: &str) -> Option<TypeId> {
        let version = crate::GroupVersion::parse(version)?;
        schema::table().type_of(&version.group, &version.version, &self.gvk.kind)
    }

    /// What applied configuration would say of the live object: for [`last_applied`].
    pub(super) fn paths_said_unchanged(&self, said: &Value, live: &Value) -> Option<Vec<String>> {
        let form = Form::object(self.type_id);
        if said.get("apiVersion").and_then(Value::as_str) != Some(&self.gvk.api_version()) {
            return None;
        }
        if validate::misfits(form, said).is_some() {
            return None;
        }
        let changes = compare(form, said, live)?;
        let set = prune::field_set(form, said);
        let set = set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed);
        let mut paths = Vec::new();
        set.each_path("", &mut |path| paths.push(path));
        Some(paths)
    }
}

/// The change of one write, seen in each manager's version.
struct Comparisons<'t, 'v> {
    tracker: &'t Tracker<'t>,
    live: &'v Value,
    new: &'v Value,
    own: &'t Comparison<'t>,
}

impl Comparisons<'_, '_> {
    /// Runs `look` on the change in a manager's version; None when that version has gone.
    fn with<T>(&self, version: &str, look: impl FnOnce(&Comparison<'_>) -> T) -> Option<T> {
        let tracker = self.tracker;
        if version == tracker.gvk.api_version() {
            return Some(look(self.own));
        }
        let (live, id) = tracker.versions.convert(self.live, version)?;
        let (new, _) = tracker.versions.convert(self.new, version)?;
        let changes = tracker.filtered(compare(Form::object(id), &live, &new)?);
        Some(look(&changes))
    }

    /// What a manager owns still; None when that is nothing.
    fn without_changes<'e>(&self, mut entry: Entry<'e>) -> Option<Entry<'e>> {
        let mut set = std::mem::take(&mut entry.set);
        self.with(&entry.api_version, |changes| {
            for changed in [&changes.modified, &changes.added, &changes.removed] {
                set.subtract(changed);
            }
        })?;
        (!set.is_empty()).then_some(Entry { set, ..entry })
    }

    fn refuse_conflicts(&self, entries: &[Entry<'_>], force: bool) -> Result<(), Error> {
        if force {
            return Ok(());
        }
        let mut conflicts = Vec::new();
        for entry in entries {
            let found = self.with(&entry.api_version, |changes| {
                let mut paths = Vec::new();
                let taken = changes.modified.union(&changes.added);
                entry.set.intersection(&taken).each_path("", &mut |path| paths.push(path));
                paths
            });
            let conflict = |path| Conflict { manager: entry.to_string(), path, identity: entry.identity() };
            conflicts.extend(found.into_iter().flatten().map(conflict));
        }
        conflicts.sort_by(|a, b| a.identity.cmp(&b.identity));
        if conflicts.is_empty() { Ok(()) } else { Err(Error::Conflicts(conflicts)) }
    }
}
