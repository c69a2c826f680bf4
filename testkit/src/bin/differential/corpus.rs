//! The requests, as data: `conformance/differential` holds a template that every kind goes through, the table of kinds,
//! and sequences that are about something of their own.
//!
//! Texts may name a variable as `${name}` or a part of one as `${name/metadata/uid}`; a text that is nothing else
//! becomes the variable's tree. `{"$merge": [A, B]}` is A changed by the merge patch B. Variables are those of the
//! sequence and the answers that its steps saved.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::template;

#[cfg(test)]
mod tests;

/// The longest name of a namespace.
const NAME_CHARS: usize = 63;

/// Requests in order, whose only effects on those of other sequences are on lists of everything.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) variables: Map<String, Value>,
}

/// One request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    /// Unique in its sequence.
    pub(crate) name: String,
    /// Method and path.
    pub(crate) send: String,
    /// Empty for the administrator, `jane` for somebody without rights, else a token.
    pub(crate) user: String,
    pub(crate) accept: String,
    /// The content type, when it is not that of the form.
    #[serde(rename = "type")]
    pub(crate) content_type: String,
    pub(crate) headers: Map<String, Value>,
    pub(crate) body: Option<Value>,
    /// The form that the body is sent in.
    #[serde(rename = "as")]
    pub(crate) form: Form,
    /// The body as it is, instead of `body`.
    pub(crate) text: Option<String>,
    /// Spaces behind the body.
    pub(crate) padding: usize,
    /// The variable that the answer becomes.
    pub(crate) save: String,
    /// How many events of a watch are read; it ends earlier when the server ends it.
    pub(crate) events: Option<usize>,
    /// Large members are compared by digest.
    pub(crate) digest: bool,
    /// Only prepares what follows: it must succeed, and is not compared.
    pub(crate) setup: bool,
    /// The kind's list of bodies; the step is repeated for each, as `${each}`.
    each: String,
    /// What a kind has to be or have; with `!`, what it has not.
    when: Vec<String>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    /// Of the collection, with `${ns}` where it has one.
    path: String,
    /// What it has, beside what is seen from the path: subresources, and words that steps ask for.
    #[serde(default)]
    traits: Vec<String>,
    sample: Value,
    /// The name of a second object; the sample's with `-b` behind it when absent.
    #[serde(default)]
    other: Option<String>,
    #[serde(default)]
    valid: Vec<Value>,
    #[serde(default)]
    invalid: Vec<Value>,
    /// Merge patches that change the sample, and that are refused for it.
    #[serde(default)]
    changes: Vec<Value>,
}

/// Reads the corpus: what looks at a fresh server comes first, then the kinds, then the other sequences.
pub(crate) fn load(folder: &Path) -> Result<Vec<Sequence>> {
    let template: Vec<Step> = read(&folder.join("template.json"))?;
    let kinds: Vec<Kind> = read(&folder.join("kinds.json"))?;
    let mut sequences: Vec<Sequence> = kinds.iter().map(|kind| expand(kind, &template)).collect();
    let mut files: Vec<_> =
        fs::read_dir(folder.join("sequences"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("a file has a name")?.to_owned();
        let mut steps = prepared();
        steps.extend(read::<Vec<Step>>(&file)?);
        let variables = variables(&name);
        sequences.push(Sequence { name, steps, variables });
    }
    sequences.iter().try_for_each(unique)?;
    Ok(sequences)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

fn unique(sequence: &Sequence) -> Result<()> {
    let mut names: Vec<&str> = sequence.steps.iter().map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "{}: two steps are called {:?}", sequence.name, twice.unwrap_or_default()[0]);
    Ok(())
}

/// The namespace is named after the sequence, as far as a name may be long.
fn variables(name: &str) -> Map<String, Value> {
    let parts: Vec<&str> = name.split('/').map(|part| part.split('.').next().unwrap_or_default()).collect();
    let namespace: String = format!("d-{}", parts.join("-")).chars().take(NAME_CHARS).collect();
    Map::from_iter([("ns".to_owned(), namespace.into())])
}

/// A namespace of its own, with the account that pods need and no controller makes here.
fn prepared() -> Vec<Step> {
    let create = |name: &str, path: &str, body: Value| Step {
        name: name.to_owned(),
        send: format!("POST {path}"),
        body: Some(body),
        setup: true,
        ..Step::default()
    };
    let account = json!({"metadata": {"name": "default"}});
    vec![
        create("namespace", "/api/v1/namespaces", json!({"metadata": {"name": "${ns}"}})),
        create("service account", "/api/v1/namespaces/${ns}/serviceaccounts", account),
    ]
}

fn expand(kind: &Kind, template: &[Step]) -> Sequence {
    let name = kind.path.trim_start_matches("/apis/").replace("/api/", "core/").replace("/namespaces/${ns}", "");
    let mut variables = variables(&name);
    let resource = name.rsplit('/').next().unwrap_or_default();
    let mut traits = kind.traits.clone();
    traits.push(resource.to_owned());
    traits.extend(kind.path.contains("${ns}").then(|| "namespaced".to_owned()));
    let name_of_sample = kind.sample["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = variables["ns"].as_str().unwrap_or_default();
    let collection = kind.path.replace("${ns}", namespace);
    let other = kind.other.clone().unwrap_or_else(|| format!("{name_of_sample}-b"));
    let sample = template::keep(&kind.sample, &variables);
    let text = sample.to_string();
    for (key, value) in [
        ("o", format!("{collection}/{name_of_sample}").into()),
        ("all", kind.path.replace("/namespaces/${ns}", "").into()),
        ("c", collection.into()),
        ("name", name_of_sample.into()),
        ("other", other.into()),
        ("resource", resource.into()),
        ("kind", kind.sample["kind"].clone()),
        ("apiVersion", kind.sample["apiVersion"].clone()),
        ("sample", sample),
        ("inner", text.trim_start_matches('{').into()),
    ] {
        variables.insert(key.to_owned(), value);
    }
    let mut steps = prepared();
    for step in template.iter().filter(|step| step.when.iter().all(|word| holds(word, &traits))) {
        let bodies = match step.each.as_str() {
            "" => {
                steps.push(step.clone());
                continue;
            }
            "valid" => &kind.valid,
            "changes" => &kind.changes,
            _ => &kind.invalid,
        };
        let bodies = bodies.iter().map(|body| template::keep(body, &variables));
        steps.extend(bodies.enumerate().map(|(number, body)| repeated(step, number, body)));
    }
    Sequence { name, steps, variables }
}

fn repeated(step: &Step, number: usize, body: Value) -> Step {
    let of = Map::from_iter([("each".to_owned(), body)]);
    let body = step.body.as_ref().map(|pattern| template::keep(pattern, &of));
    Step { name: format!("{} {}", step.name, number + 1), body, ..step.clone() }
}

fn holds(word: &str, traits: &[String]) -> bool {
    match word.strip_prefix('!') {
        Some(word) => traits.iter().all(|one| one != word),
        None => traits.iter().any(|one| one == word),
    }
}
