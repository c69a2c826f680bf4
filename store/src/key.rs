//! Keys: typed tuples of segments, laid out as etcd paths below one root.
//!
//! A key cannot be built by joining strings: every segment is checked, so that a name can never reach
//! into a neighbour's range, and a prefix always ends in the separator, so that `pods` never covers
//! `podtemplates`. Order is bytewise over the whole path, which is etcd's order and therefore the
//! order in which clients see lists.

use std::fmt;
use std::sync::Arc;

/// Root of every key, without the trailing separator. Upstream's default for `--etcd-prefix`.
pub const ROOT: &str = "/registry";

/// The longest key, as a whole path.
pub const KEY_BYTES_MAX: usize = 4096;

const SEPARATOR: char = '/';

/// Why a key, prefix or suffix was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key needs at least one segment.
    #[error("key has no segment")]
    NoSegment,
    /// Segments are never empty.
    #[error("key segment {index} is empty")]
    EmptySegment {
        /// Zero-based place of the segment.
        index: usize,
    },
    /// Separators, NUL and the path words `.` and `..` are not part of a segment.
    #[error("key segment {segment:?} contains a separator or is not a name")]
    InvalidSegment {
        /// The refused segment.
        segment: String,
    },
    /// The whole path is longer than [`KEY_BYTES_MAX`].
    #[error("key of {bytes} bytes is too long")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A stored path that does not lie below [`ROOT`] or has no proper segments.
    #[error("path {path:?} is not a key below {ROOT}")]
    InvalidPath {
        /// The refused path.
        path: String,
    },
}

/// The full path of one stored value, for example `/registry/pods/default/web`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// The beginning of a range of keys; always ends in the separator. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrefix(Arc<str>);

impl Key {
    /// Builds a key below [`ROOT`]: `Key::new(["pods", "default", "web"])`.
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let mut path = String::from(ROOT);
        append(&mut path, segments)?;
        if path.len() == ROOT.len() {
            return Err(KeyError::NoSegment);
        }
        Self::bounded(&path)
    }

    /// Reads a whole path, as stored: `/registry/pods/default/web`.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        let invalid = || KeyError::InvalidPath { path: path.to_owned() };
        let rest = path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix(SEPARATOR)).ok_or_else(invalid)?;
        rest.split(SEPARATOR)
            .enumerate()
            .try_for_each(|(index, segment)| check(index, segment))
            .map_err(|_| invalid())?;
        Self::bounded(path)
    }

    /// Takes any text as a key: for a server of etcd's protocol, whose keys are its clients'. Whoever knows
    /// what it stores uses [`Self::new`].
    pub fn foreign(path: &str) -> Result<Self, KeyError> {
        if path.is_empty() {
            return Err(KeyError::NoSegment);
        }
        Self::bounded(path)
    }

    fn bounded(path: &str) -> Result<Self, KeyError> {
        if path.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: path.len() });
        }
        Ok(Self(path.into()))
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments after [`ROOT`].
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.get(ROOT.len() + 1..).unwrap_or_default().split(SEPARATOR)
    }

    /// The last segment, which is the object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.segments().next_back().unwrap_or_default()
    }

    /// What follows `prefix`, or `None` when the key lies outside of it.
    #[must_use]
    pub fn suffix(&self, prefix: &KeyPrefix) -> Option<&str> {
        self.0.strip_prefix(&*prefix.0)
    }

    /// Every prefix that covers this key, the longest first.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        let below_root = |prefix: &&str| prefix.len() > ROOT.len();
        self.0.rmatch_indices(SEPARATOR).map(|(at, _)| &self.0[..=at]).filter(below_root).chain([""])
    }
}

impl KeyPrefix {
    /// The prefix of everything.
    #[must_use]
    pub fn root() -> Self {
        Self(format!("{ROOT}/").into())
    }

    /// The prefix of everything, foreign keys too.
    pub(crate) fn everything() -> Self {
        Self("".into())
    }

    /// Any prefix that ends in the separator.
    pub(crate) fn foreign(path: &str) -> Self {
        debug_assert!(path.ends_with(SEPARATOR), "a prefix ends in the separator");
        if path.len() > ROOT.len() { Self(path.into()) } else { Self::everything() }
    }

    /// Builds a prefix below [`ROOT`]: `KeyPrefix::new(["pods"])` is `/registry/pods/`.
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let mut path = String::from(ROOT);
        append(&mut path, segments)?;
        path.push(SEPARATOR);
        Ok(Self(path.into()))
    }

    /// A narrower prefix: `pods.child("default")` is `/registry/pods/default/`.
    pub fn child(&self, segment: &str) -> Result<Self, KeyError> {
        check(0, segment)?;
        Ok(Self(format!("{}{segment}/", self.0).into()))
    }

    /// A key below this prefix: `pods.key(["default", "web"])`.
    pub fn key<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<Key, KeyError> {
        let mut path = String::from(self.0.trim_end_matches(SEPARATOR));
        let start = path.len();
        append(&mut path, segments)?;
        if path.len() == start {
            return Err(KeyError::NoSegment);
        }
        Key::bounded(&path)
    }

    /// The whole path, with the trailing separator.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `key` lies below this prefix.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }
}

fn append<'a>(path: &mut String, segments: impl IntoIterator<Item = &'a str>) -> Result<(), KeyError> {
    for (index, segment) in segments.into_iter().enumerate() {
        check(index, segment)?;
        path.push(SEPARATOR);
        path.push_str(segment);
    }
    Ok(())
}

fn check(index: usize, segment: &str) -> Result<(), KeyError> {
    if segment.is_empty() {
        return Err(KeyError::EmptySegment { index });
    }
    if segment.contains([SEPARATOR, '\0']) || segment == "." || segment == ".." {
        return Err(KeyError::InvalidSegment { segment: segment.to_owned() });
    }
    Ok(())
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for KeyPrefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrefix({})", self.0)
    }
}

#[cfg(test)]
mod tests;
