//! The differences that are known: a class and a request each. The list may only shrink.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

const TITLE: &str = "\
# Where answers are known to differ from upstream's: a class in brackets, then the requests that show it.
# The list may only shrink; `cargo xtask differential --shrink` takes out what is gone.
";

/// Class and request.
pub(crate) type Gap = (String, String);

pub(crate) fn load(path: &Path) -> Result<BTreeSet<Gap>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut class, mut gaps) = ("", BTreeSet::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => class = name,
            None => {
                gaps.insert((class.to_owned(), line.to_owned()));
            }
        }
    }
    Ok(gaps)
}

pub(crate) fn store(path: &Path, gaps: &BTreeSet<Gap>) -> Result<()> {
    let (mut text, mut last) = (TITLE.to_owned(), "");
    for (class, request) in gaps {
        if class != last {
            text.push_str(&format!("\n[{class}]\n"));
            last = class;
        }
        text.push_str(request);
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
