//! Checks what clippy cannot: file sizes, module docs, where unsafe code may stand, words that do not belong here.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::run::{files, root};

const WARN_LINES: usize = 500;
const FAIL_LINES: usize = 1_000;

/// Text that may stand in some places only, so that an invariant of ARCHITECTURE holds.
struct Confined {
    words: &'static [&'static str],
    /// Where it may not stand; everywhere when empty.
    within: &'static str,
    /// Folders and files it may stand in.
    allowed: &'static [&'static str],
    why: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        words: &["env::var", "env::args"],
        within: "",
        allowed: &["ironclad/", "xtask/", "testkit/"],
        why: "only the binary reads arguments and the environment",
    },
    Confined {
        words: &["tokio::signal", "signal_hook", "sigaction("],
        within: "",
        allowed: &["daemon/", "xtask/"],
        why: "only daemon installs signal handlers",
    },
    Confined {
        words: &["unbounded_channel", "mpsc::unbounded", "channel::unbounded"],
        within: "",
        allowed: &["xtask/"],
        why: "every queue has a named limit",
    },
    Confined {
        words: &[
            "\"pods\"",
            "\"Pod\"",
            "\"nodes\"",
            "\"Node\"",
            "\"services\"",
            "\"Service\"",
            "\"namespaces\"",
            "\"secrets\"",
        ],
        within: "apiserver/src/registry/",
        allowed: &["apiserver/src/registry/special", "apiserver/src/registry/special.rs"],
        why: "the generic registry names no kind",
    },
];

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
    if !is_test(file) {
        findings.extend(misplaced(file, text));
    }
    findings.extend(length(file, text));
    findings
}

fn misplaced(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for confined in CONFINED {
        let is_allowed = confined.allowed.iter().any(|start| file.starts_with(start));
        if is_allowed || file.ends_with("build.rs") || !file.starts_with(confined.within) {
            continue;
        }
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (index, line) in code {
            if let Some(word) = confined.words.iter().find(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}: {}", file.display(), index + 1, confined.why));
            }
        }
    }
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
