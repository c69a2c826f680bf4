//! The images of the suite, made of this machine's programs as `conformance/images/images.json` says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use testkit::image::{self, Finished, Image};

/// One image; paths are relative to its root.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    names: Vec<String>,
    /// `busybox`, the name of an image before this one, or nothing.
    #[serde(default)]
    from: String,
    /// Programs of this machine, with their libraries.
    #[serde(default)]
    programs: Vec<String>,
    /// Programs that `conformance/build` makes.
    #[serde(default)]
    built: Vec<Built>,
    /// Files of a Go module.
    #[serde(default)]
    sources: Vec<Source>,
    #[serde(default)]
    files: Vec<Text>,
    #[serde(default)]
    folders: Vec<String>,
    #[serde(default)]
    links: Vec<Link>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    user: Option<String>,
    /// Where it differs from upstream's image of that name.
    #[serde(rename = "differs")]
    _differs: String,
}

#[derive(Deserialize)]
struct Built {
    program: String,
    path: String,
    /// Octal.
    mode: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    module: String,
    file: String,
    path: String,
}

#[derive(Deserialize)]
struct Text {
    path: String,
    text: String,
}

#[derive(Deserialize)]
struct Link {
    path: String,
    target: String,
}

/// Makes all images, and writes them to one archive.
pub(crate) fn write(conformance: &Path, archive: &Path) -> Result<Vec<Finished>> {
    let path = conformance.join("images/images.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let recipes: Vec<Recipe> =
        serde_json::from_str(&text).with_context(|| format!("{} is not usable", path.display()))?;
    let mut modules = Modules { conformance, folders: BTreeMap::new() };
    let mut made: Vec<Finished> = Vec::new();
    for recipe in &recipes {
        let first = recipe.names.first().context("an image has no name")?;
        let image = make(recipe, first, &made, &mut modules).with_context(|| format!("cannot make image {first}"))?;
        made.push(image);
    }
    image::save(&made, archive).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(made)
}

fn make(recipe: &Recipe, first: &str, made: &[Finished], modules: &mut Modules<'_>) -> Result<Finished> {
    let mut image = base(recipe, first, made)?;
    recipe.names[1..].iter().for_each(|name| image.name(name));
    for program in &recipe.programs {
        image.program(program).with_context(|| format!("cannot take {program} from this machine"))?;
    }
    for Built { program, path, mode } in &recipe.built {
        let source = modules.conformance.join("bin").join(program);
        let content = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let mode = u32::from_str_radix(mode.as_deref().unwrap_or("755"), 8).context("a mode is octal")?;
        image.file(path, &content, mode)?;
    }
    for Source { module, file, path } in &recipe.sources {
        let source = modules.folder(module)?.join(file);
        let content = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        image.file(path, &content, 0o644)?;
    }
    for Text { path, text } in &recipe.files {
        image.file(path, text.as_bytes(), 0o644)?;
    }
    for folder in &recipe.folders {
        image.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 })?;
    }
    for Link { path, target } in &recipe.links {
        image.link(path, target)?;
    }
    start(recipe, &mut image);
    Ok(image.finish()?)
}

fn base(recipe: &Recipe, first: &str, made: &[Finished]) -> Result<Image> {
    Ok(match recipe.from.as_str() {
        "" => Image::new(first),
        "busybox" => Image::busybox(first)?,
        base => {
            let Some(base) = made.iter().find(|image| image.names().iter().any(|name| name == base)) else {
                bail!("no image before it is called {base}");
            };
            Image::based_on(first, base)
        }
    })
}

/// What its containers start with.
fn start(recipe: &Recipe, image: &mut Image) {
    recipe.env.iter().for_each(|(key, value)| image.env(key, value));
    if let Some(entrypoint) = &recipe.entrypoint {
        image.entrypoint(entrypoint);
    }
    if let Some(command) = &recipe.command {
        image.command(command);
    }
    if let Some(user) = &recipe.user {
        image.user(user);
    }
}

/// Where the Go modules lie.
struct Modules<'a> {
    conformance: &'a Path,
    folders: BTreeMap<String, PathBuf>,
}

impl Modules<'_> {
    fn folder(&mut self, module: &str) -> Result<&Path> {
        if !self.folders.contains_key(module) {
            let mut list = Command::new("go");
            list.args(["list", "-m", "-f", "{{.Dir}}", module]).current_dir(self.conformance);
            let output = list.output().context("cannot run go list")?;
            let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if !output.status.success() || folder.is_empty() {
                bail!("go list says nothing about {module}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            self.folders.insert(module.to_owned(), folder.into());
        }
        Ok(&self.folders[module])
    }
}
