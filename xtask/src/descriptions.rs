//! Field descriptions for OpenAPI, taken from the schemas of the `k8s-openapi` crate.
//!
//! The crate can build those schemas at run time, but that links a megabyte of code for every type. Here its source
//! is read once and the texts are written, compressed, to `apiserver/data/descriptions.gz`: a line
//! `@type<TAB>text` for each type, and below it `field<TAB>text`; the texts are JSON strings.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cargo_metadata::MetadataCommand;
use flate2::{Compression, write::GzEncoder};

use crate::run;

const OUTPUT: &str = "apiserver/data/descriptions.gz";
const CRATE: &str = "k8s-openapi";
const RELEASE: &str = "v1_37";
/// Fewer types than this mean that the crate's sources have another shape than this task knows.
const MIN_TYPES: usize = 500;

/// What one type says of itself: its own text under the empty name, then its fields'.
type Texts = BTreeMap<String, String>;

/// Writes the table anew.
pub(crate) fn write() -> anyhow::Result<()> {
    let mut types = BTreeMap::new();
    collect(&sources()?, &mut types)?;
    if types.len() < MIN_TYPES {
        bail!("found descriptions of {} types only; have the sources of {CRATE} changed?", types.len());
    }
    let file = std::fs::File::create(run::root().join(OUTPUT)).with_context(|| format!("create {OUTPUT}"))?;
    let mut out = GzEncoder::new(file, Compression::best());
    for (id, texts) in &types {
        writeln!(out, "@{id}\t{}", texts.get("").map_or("\"\"", String::as_str))?;
        for (field, text) in texts.iter().filter(|(field, _)| !field.is_empty()) {
            writeln!(out, "{field}\t{text}")?;
        }
    }
    out.finish()?;
    Ok(())
}

fn sources() -> anyhow::Result<PathBuf> {
    let metadata = MetadataCommand::new().exec().context("read cargo metadata")?;
    let package = metadata.packages.iter().find(|package| package.name == CRATE);
    let manifest = &package.with_context(|| format!("{CRATE} is no dependency"))?.manifest_path;
    let root = manifest.parent().context("a manifest lies in a directory")?;
    Ok(root.join("src").join(RELEASE).into())
}

fn collect(directory: &Path, types: &mut BTreeMap<String, Texts>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, types)?;
        } else if let Some((id, texts)) = read(&std::fs::read_to_string(&path)?) {
            types.insert(id, texts);
        }
    }
    Ok(())
}

/// Reads one source file by the layout that its generator gives it: a property's name stands four levels deep, its
/// text one deeper.
fn read(source: &str) -> Option<(String, Texts)> {
    let (_, rest) = source.split_once("fn schema_name()")?;
    let name = rest.lines().find_map(|line| line.trim().strip_prefix("\"io.k8s.")?.strip_suffix("\".into()"))?;
    let mut texts = Texts::new();
    let mut property = String::new();
    for line in rest.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        let opens = line.strip_suffix("\": {").or_else(|| line.strip_suffix("\": ({"));
        if let (16, Some(name)) = (depth, opens.and_then(|line| line.strip_prefix('"'))) {
            name.clone_into(&mut property);
        } else if let Some(text) = text(line) {
            match depth {
                12 => drop(texts.insert(String::new(), text.to_owned())),
                20 => drop(texts.insert(property.clone(), text.to_owned())),
                _ => {}
            }
        }
    }
    Some((name.to_owned(), texts))
}

/// A description stands in a schema of its own, or is put into the one of another type.
fn text(line: &str) -> Option<&str> {
    let inserted = "schema_obj.ensure_object().insert(\"description\".into(), ";
    let own = line.strip_prefix("\"description\": ").and_then(|line| line.strip_suffix(','));
    own.or_else(|| line.strip_prefix(inserted)?.strip_suffix(".into());"))
}
