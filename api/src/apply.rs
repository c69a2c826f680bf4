//! Server-side apply and `metadata.managedFields`: who owns which fields, and merging by that.
//!
//! ```text
//! Tracker -- update: what a write changed becomes its manager's, and nobody else's
//!         -- apply:  live + configuration -> merged, without what its manager no longer says; conflicts with others
//!   managers: the list of the wire      set: tries of paths      form: how the schema table says that values merge
//!   compare, merge, prune, validate: walks over values by their form
//! ```
//! Managed fields are handled as the text of the wire ([`Tracker`] takes and gives it), apart from the object: a write
//! that changes nothing does not read them. Objects here have no `metadata.managedFields`.
//!
//! The rules are those of upstream's structured-merge-diff and apimachinery/pkg/util/managedfields.

mod compare;
mod conflict;
mod element;
mod form;
mod last_applied;
mod managers;
mod merge;
mod prune;
mod scale;
mod set;
mod track;
mod validate;

#[cfg(test)]
mod tests;

pub use conflict::{Conflict, Error};
pub use scale::{scale_of_parent, scale_to_parent};
pub use track::{Applied, Reset, Tracker, Versions};

/// What a client that writes `metadata.managedFields` itself means by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing was said, or nothing readable: those of the live object stay.
    Nothing,
    /// An empty list, or a list of one empty entry: forget them all.
    Reset,
    /// These.
    Entries(String),
}

impl Given {
    /// Reads what a request's object says.
    pub fn read(managed_fields: Option<&crate::Value>) -> Self {
        let Some(entries) = managed_fields.and_then(crate::Value::as_array) else { return Self::Nothing };
        let is_blank = |entry: &crate::Value| entry.as_object().is_some_and(|fields| fields.values().all(is_unset));
        if entries.is_empty() || (entries.len() == 1 && is_blank(&entries[0])) {
            return Self::Reset;
        }
        let text = serde_json::to_string(entries).unwrap_or_default();
        let Ok(entries) = managers::decode(&text) else { return Self::Nothing };
        Self::Entries(String::from_utf8(managers::encode(entries)).expect("names and JSON are text"))
    }
}

fn is_unset(value: &crate::Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// True when two lists of managed fields differ in nothing but times: not worth a write.
pub fn differ_in_times_only(one: &str, two: &str) -> bool {
    managers::differ_in_times_only(one, two)
}
