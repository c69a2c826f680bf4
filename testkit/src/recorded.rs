//! Upstream's recorded answers to invalid requests, and how an answer is compared with them.

use std::{fs, path::Path, sync::OnceLock};

use anyhow::{Context as _, Result, bail, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// One request with upstream's answer. Requests are sent in order to one fresh server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Empty for none.
    #[serde(default)]
    pub content_type: String,
    /// Empty for JSON.
    #[serde(default)]
    pub accept: String,
    /// Empty for the administrator, `jane` for one without rights, else a token.
    #[serde(default)]
    pub user: String,
    /// Sent as `Impersonate-User`.
    #[serde(default)]
    pub impersonate: String,
    #[serde(default)]
    body: String,
    /// Spaces behind the body.
    #[serde(default)]
    padding: usize,
    /// Only prepares what follows.
    #[serde(default)]
    pub setup: bool,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    code: u16,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<Value>,
    #[serde(default)]
    text: Option<String>,
    /// Compared where headers are at hand.
    #[serde(default)]
    #[expect(dead_code, reason = "kept for the runs that see headers")]
    warnings: Vec<String>,
}

/// Reads the recorded requests of the repository at `root`.
///
/// # Errors
/// When the file is missing or of another form.
pub fn cases(root: &Path) -> Result<Vec<Case>> {
    let path = root.join("conformance/invalid/recorded.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

impl Case {
    /// What is sent.
    pub fn body(&self) -> String {
        self.body.clone() + &" ".repeat(self.padding)
    }

    /// Fails when an answer is not upstream's: code, reason, message and details, after identifiers and times have
    /// been replaced as in the recording.
    ///
    /// # Errors
    /// What differs.
    pub fn compare(&self, code: u16, body: &str) -> Result<()> {
        let expect = &self.expect;
        ensure!(code == expect.code, "code {code} instead of {}: {}", expect.code, shortened(body));
        if let Some(text) = &expect.text {
            ensure!(body.trim() == text.trim(), "{:?} instead of {text:?}", shortened(body));
            return Ok(());
        }
        let body: Value = serde_json::from_str(&normalized(body)).unwrap_or_default();
        same("reason", &body["reason"], &expect.reason.as_deref().into())?;
        if body["details"]["causes"].as_array().is_none_or(|causes| causes.len() < 2) {
            same("message", &body["message"], &expect.message.as_deref().into())?;
        }
        same("details", &sorted(&body["details"]), &sorted(expect.details.as_ref().unwrap_or(&Value::Null)))
    }
}

/// Upstream walks maps in random order, so several causes may come in any, and so may their texts in the message.
fn sorted(details: &Value) -> Value {
    let mut details = details.clone();
    if let Some(causes) = details["causes"].as_array_mut() {
        causes.sort_by_key(ToString::to_string);
    }
    details
}

fn same(what: &str, ours: &Value, recorded: &Value) -> Result<()> {
    if recorded.is_null() || ours == recorded {
        return Ok(());
    }
    bail!("{what}\n    ours     {ours}\n    upstream {recorded}")
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The replacements of `conformance/invalid`, in its order.
fn normalized(body: &str) -> String {
    static PATTERNS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let all = [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"current: \d+", "current: <revision>"),
            (r"in record \(\d+\)", "in record (<revision>)"),
            (r"20[1-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
            (r#"Invalid value: \\"\{\\\\\\"apiVersion.*?\}\\": "#, "Invalid value: <object>: "),
            (r#"in scheme \\"[^"]*\\""#, "in scheme <place>"),
            (r#""A b[a-z0-9]{5}""#, r#""A b<suffix>""#),
            (r#"\\"A b[a-z0-9]{5}\\""#, r#"\"A b<suffix>\""#),
            (r"default-token-[a-z0-9]+|kube-api-access-[a-z0-9]+", "<token volume>"),
        ];
        all.map(|(pattern, word)| (Regex::new(pattern).expect("a constant pattern is valid"), word)).into()
    });
    patterns.iter().fold(body.to_owned(), |text, (pattern, word)| pattern.replace_all(&text, *word).into_owned())
}

/// Names of requests whose answers are known to differ, from a file with one a line that may only shrink.
///
/// # Errors
/// When the file cannot be read.
pub fn known_differences(root: &Path) -> Result<Vec<String>> {
    let path = root.join("conformance/invalid/known-gaps.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}
