//! The options of requests, read from the query or a body into closed types, with upstream's refusals.

use api::field::{ErrorKind, FieldErrors, Path};
use api::selector::{FieldSelector, LabelSelector};
use api::{Reason, Status, Value};

use crate::request::Context;

#[cfg(test)]
mod tests;

/// Options of a list or watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    /// The most items of a page; 0 is all.
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    /// As sent; empty for the newest.
    pub(crate) resource_version: String,
    pub(crate) version_match: VersionMatch,
    pub(crate) bookmarks: bool,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) send_initial_events: Option<bool>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

impl ListOptions {
    /// Reads the options of a list, or of a watch.
    pub(crate) fn read(context: &Context, watch: bool) -> Result<Self, Status> {
        let text = |key: &str| context.param(key).unwrap_or("");
        let bad = |error: api::selector::SelectorError| Status::bad_request(error.to_string());
        let limit = integer(context, "limit")?.unwrap_or(0);
        let mut options = Self {
            labels: LabelSelector::parse(text("labelSelector")).map_err(bad)?,
            fields: FieldSelector::parse(text("fieldSelector")).map_err(bad)?,
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: text("continue").to_owned(),
            resource_version: text("resourceVersion").to_owned(),
            version_match: VersionMatch::Unset,
            bookmarks: boolean(context, "allowWatchBookmarks")?.unwrap_or(false),
            timeout_seconds: integer(context, "timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0),
            send_initial_events: boolean(context, "sendInitialEvents")?,
        };
        let given = text("resourceVersionMatch");
        if watch && options.send_initial_events.is_none() && given.is_empty() && is_start(&options.resource_version) {
            // Upstream's legacy default: from the beginning means all there is, then changes.
            options.send_initial_events = Some(true);
            options.version_match = VersionMatch::NotOlderThan;
            return Ok(options);
        }
        options.check(given, watch)?;
        options.version_match = match given {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        };
        Ok(options)
    }

    fn check(&self, given: &str, watch: bool) -> Result<(), Status> {
        let mut errors = FieldErrors::new();
        if watch {
            self.check_watch(given, &mut errors)
        } else {
            self.check_list(given, &mut errors)
        }
        refuse("ListOptions", &errors)
    }

    fn check_list(&self, given: &str, errors: &mut FieldErrors) {
        let path = Path::new("resourceVersionMatch");
        if !given.is_empty() {
            if self.resource_version.is_empty() {
                errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.continue_token.is_empty() {
                errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !matches!(given, "Exact" | "NotOlderThan") {
                let message =
                    format!("Unsupported value: {given:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
                errors.push(ErrorKind::NotSupported, &path, message);
            }
            if given == "Exact" && self.resource_version == "0" {
                errors.forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.send_initial_events.is_some() {
            errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        }
    }

    fn check_watch(&self, given: &str, errors: &mut FieldErrors) {
        let path = Path::new("resourceVersionMatch");
        if self.send_initial_events.is_some() && given != "NotOlderThan" {
            errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if given.is_empty() {
            return;
        }
        if self.send_initial_events.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.forbidden(&path, detail);
        }
        if given != "NotOlderThan" {
            errors.not_supported(&path, given, &["NotOlderThan"]);
        }
        if !self.continue_token.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    }

    /// `resourceVersion` as a number; 0 when it is not given.
    pub(crate) fn revision(&self) -> Result<u64, Status> {
        let parsed = parse_revision(&self.resource_version);
        parsed.map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))
    }
}

fn is_start(version: &str) -> bool {
    matches!(version, "" | "0")
}

/// A resource version as a number; 0 for an empty one. The error is upstream's text.
pub(crate) fn parse_revision(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    text.parse().map_err(|_| format!("resourceVersion: Invalid value: {text:?}: {detail}"))
}

/// The version that an object to be written names; 0 for none.
pub(crate) fn parse_version(text: &str) -> Result<u64, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| Status::new(Reason::Unknown(500), format!("strconv.ParseUint: parsing {text:?}: invalid syntax")))
}

/// How unknown and duplicate fields of a body are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of a create, update or patch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
    /// Empty when the client has not said.
    pub(crate) field_manager: String,
    /// The write is an apply.
    pub(crate) applies: bool,
    /// An apply takes what others own.
    pub(crate) force: bool,
}

impl WriteOptions {
    /// Reads the options; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub(crate) fn read(context: &Context, kind: &str) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        if kind == "PatchOptions" && context.param("force").is_some() {
            errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        }
        Self::read_into(context, kind, errors)
    }

    /// Reads the options of a server-side apply.
    pub(crate) fn read_apply(context: &Context) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        if context.param("fieldManager").unwrap_or("").is_empty() {
            errors.required(&Path::new("fieldManager"), "is required for apply patch");
        }
        let force = boolean(context, "force")?.unwrap_or(false);
        Ok(Self { applies: true, force, ..Self::read_into(context, "PatchOptions", errors)? })
    }

    fn read_into(context: &Context, kind: &str, mut errors: FieldErrors) -> Result<Self, Status> {
        let manager = context.param("fieldManager").unwrap_or("");
        kinds::object_meta::field_manager(manager, &Path::new("fieldManager"), &mut errors);
        let dry_run = dry_run(context.params("dryRun"), &mut errors);
        let given = context.param("fieldValidation").unwrap_or("");
        let field_validation = match given {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = Path::new("fieldValidation");
                errors.not_supported(&path, other, &["Ignore", "Strict", "Warn", ""]);
                FieldValidation::Warn
            }
        };
        refuse(kind, &errors)?;
        Ok(Self { dry_run, field_validation, field_manager: manager.to_owned(), applies: false, force: false })
    }
}

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// Options of a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads the options from the query, which counts when there is no body.
    pub(crate) fn from_query(context: &Context) -> Result<Self, Status> {
        let mut tree = serde_json::json!({});
        for (key, value) in context.query.iter() {
            match key.as_str() {
                "gracePeriodSeconds" => tree[key] = integer(context, key)?.into(),
                "orphanDependents" => tree[key] = boolean(context, key)?.into(),
                "propagationPolicy" => tree[key] = value.as_str().into(),
                _ => {}
            }
        }
        tree["dryRun"] = context.params("dryRun").collect();
        Self::from_tree(&tree)
    }

    /// Reads the options from a decoded body.
    pub(crate) fn from_tree(tree: &Value) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let propagation = tree.get("propagationPolicy").and_then(Value::as_str);
        let orphan_dependents = tree.get("orphanDependents").and_then(Value::as_bool);
        let path = Path::new("propagationPolicy");
        if orphan_dependents.is_some() && propagation.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&path, propagation.unwrap_or(""), detail);
        }
        let propagation = propagation.and_then(|policy| propagation_policy(policy, &path, &mut errors));
        let values = tree.get("dryRun").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let dry_run = dry_run(values, &mut errors);
        refuse("DeleteOptions", &errors)?;
        let preconditions = tree.get("preconditions");
        Ok(Self {
            grace_period_seconds: tree.get("gracePeriodSeconds").and_then(Value::as_i64),
            uid: text(preconditions.and_then(|p| p.get("uid"))),
            resource_version: text(preconditions.and_then(|p| p.get("resourceVersion"))),
            orphan_dependents,
            propagation,
            dry_run,
        })
    }
}

fn propagation_policy(policy: &str, path: &Path<'_>, errors: &mut FieldErrors) -> Option<Propagation> {
    match policy {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        other => {
            let values = "\"Foreground\", \"Background\", \"Orphan\", \"nil\"";
            let message = format!("Unsupported value: {other:?}: supported values: {values}");
            errors.push(ErrorKind::NotSupported, path, message);
            None
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut FieldErrors) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        errors.not_supported(&Path::new("dryRun"), Value::from(values.clone()), &["All"]);
    }
    !values.is_empty()
}

fn refuse(kind: &str, errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", kind, "", errors))
}

fn integer(context: &Context, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = context.param(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse::<i64>();
    parsed.map(Some).map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

/// As upstream reads booleans in queries: absent is none, anything but `false` and `0` is true.
pub(crate) fn boolean(context: &Context, key: &str) -> Result<Option<bool>, Status> {
    Ok(context.param(key).map(|text| !matches!(text, "false" | "0")))
}
