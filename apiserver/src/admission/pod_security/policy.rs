//! A namespace's policy, as its labels say it.

use std::fmt;

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use serde_json::json;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How careful pods have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as a release has it; None is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) minor: Option<u32>,
}

/// What is refused and what is warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) warn: Standard,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

impl Standard {
    const OPEN: Self = Self { level: Level::Privileged, minor: None };

    /// The release's rules are at least those of this minor release.
    pub(super) fn has(self, minor: u32) -> bool {
        self.minor.is_none_or(|own| own >= minor)
    }
}

impl Policy {
    /// The policy of a namespace, and what is wrong with its labels. What cannot be read is restricted where it is enforced and
    /// open where it only warns.
    pub(super) fn read(namespace: &Value) -> (Self, FieldErrors) {
        let mut errors = FieldErrors::new();
        let mut policy = Self { enforce: Standard::OPEN, warn: Standard::OPEN };
        let enforced = level(namespace, "enforce", Level::Restricted, &mut errors);
        if let Some((level, _)) = enforced {
            policy.enforce.level = level;
        }
        policy.enforce.minor = version(namespace, "enforce-version", &mut errors).flatten();
        let _ = level(namespace, "audit", Level::Privileged, &mut errors);
        let _ = version(namespace, "audit-version", &mut errors);
        let warned = level(namespace, "warn", Level::Privileged, &mut errors);
        let warned_version = version(namespace, "warn-version", &mut errors);
        policy.warn.minor = warned_version.flatten();
        match (warned, enforced) {
            (Some((level, _)), _) => policy.warn.level = level,
            (None, Some((level, true))) if level > policy.warn.level => {
                policy.warn.level = level;
                if warned_version.is_none() {
                    policy.warn.minor = policy.enforce.minor;
                }
            }
            _ => {}
        }
        (policy, errors)
    }
}

/// A level, and whether it could be read; None without the label.
fn level(namespace: &Value, mode: &str, unreadable: Level, errors: &mut FieldErrors) -> Option<(Level, bool)> {
    let key = format!("{PREFIX}{mode}");
    let text = meta::label(namespace, &key)?;
    Some(match text {
        "privileged" => (Level::Privileged, true),
        "baseline" => (Level::Baseline, true),
        "restricted" => (Level::Restricted, true),
        _ => {
            refuse(&key, text, "must be one of privileged, baseline, restricted", errors);
            (unreadable, false)
        }
    })
}

/// A minor release, None for the latest; None without the label.
fn version(namespace: &Value, mode: &str, errors: &mut FieldErrors) -> Option<Option<u32>> {
    let key = format!("{PREFIX}{mode}");
    let text = meta::label(namespace, &key)?;
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.").filter(|minor| *minor == "0" || !minor.starts_with(['0', '+']));
    match minor.and_then(|minor| minor.parse().ok()) {
        Some(minor) => Some(Some(minor)),
        None => {
            refuse(&key, text, "must be \"latest\" or \"v1.x\"", errors);
            Some(None)
        }
    }
}

fn refuse(key: &str, text: &str, detail: &str, errors: &mut FieldErrors) {
    let metadata = Path::new("metadata");
    let labels = metadata.child("labels");
    errors.invalid(&labels.key(key), json!(text), detail);
}
