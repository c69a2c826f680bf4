//! Checks what clippy cannot: file sizes, module docs, where unsafe code may stand, words that do not belong here.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::run::{files, root};

const WARN_LINES: usize = 500;
const FAIL_LINES: usize = 1_000;

/// Files above the limit that wait for a split; the list may only shrink.
const KNOWN_LONG: &str = include_str!("../known-long.txt");

pub(crate) fn check() -> Result<()> {
    let mut findings = Vec::new();
    let files = files(".rs")?;
    for file in &files {
        let text = fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        findings.extend(look(file, &text));
    }
    findings.extend(stale_exceptions()?);
    if !findings.is_empty() {
        bail!("not tidy:\n{}", findings.join("\n"));
    }
    println!("tidy: {} files", files.len());
    Ok(())
}

fn look(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{}: does not open with //!", file.display()));
    }
    let allows_unsafe = |line: &str| line.trim_start().starts_with('#') && line.contains("unsafe_code");
    if text.lines().any(allows_unsafe) && !is_sys(file) {
        findings.push(format!("{}: unsafe code outside a module called sys", file.display()));
    }
    findings.extend(length(file, text));
    findings
}

fn length(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    if is_test(file) || lines <= WARN_LINES {
        return None;
    }
    if lines <= FAIL_LINES {
        println!("tidy: {} has {lines} lines, more than {WARN_LINES}", file.display());
        return None;
    }
    let known = KNOWN_LONG.lines().any(|known| Path::new(known) == file);
    (!known).then(|| format!("{}: {lines} lines, more than {FAIL_LINES}", file.display()))
}

fn stale_exceptions() -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for known in KNOWN_LONG.lines() {
        let text = fs::read_to_string(root().join(known)).unwrap_or_default();
        if text.lines().count() <= FAIL_LINES {
            stale.push(format!("xtask/known-long.txt: {known} is short enough now"));
        }
    }
    Ok(stale)
}

fn is_test(file: &Path) -> bool {
    let named = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs" || part == "benches";
    file.iter().any(named)
}

fn is_sys(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "sys") || file.iter().any(|part| part == "sys")
}
