//! Running other programs, from the repository's root, with their output shown.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// How variables begin that `cargo run` sets for the program it starts.
const OF_THE_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the repository's root").to_owned()
}

/// Where cargo puts programs of a profile.
pub(crate) fn built(profile: &str) -> PathBuf {
    root().join("target").join(env!("IRONCLAD_TARGET")).join(profile)
}

/// A program with its arguments.
pub(crate) struct Program {
    name: OsString,
    command: Command,
}

impl Program {
    /// To be run in the repository's root, without what cargo tells this program of its own package: build scripts that
    /// look at it would run again, and all that depends on them, whenever `cargo build` and `cargo xtask` take turns.
    pub(crate) fn new(name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(&name);
        command.current_dir(root());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| OF_THE_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        Self { name: name.as_ref().to_owned(), command }
    }

    /// Cargo, as called.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs in a folder of the repository.
    pub(crate) fn within(mut self, folder: &str) -> Self {
        self.command.current_dir(root().join(folder));
        self
    }

    /// Runs to its end, failing as it does.
    pub(crate) fn run(mut self) -> Result<()> {
        let name = self.name.display();
        let status = self.command.status().with_context(|| format!("cannot start {name}"))?;
        if !status.success() {
            bail!("{name} {:?} ended with {status}", self.command.get_args().collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Runs to its end and returns its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let name = self.name.display();
        let output = self.command.output().with_context(|| format!("cannot start {name}"))?;
        if !output.status.success() {
            bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
    }
}

/// The files that git knows, relative to the root, with this ending.
pub(crate) fn files(ending: &str) -> Result<Vec<PathBuf>> {
    let listed = Program::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    let files = listed.lines().filter(|f| f.ends_with(ending)).map(PathBuf::from);
    Ok(files.filter(|f| root().join(f).is_file()).collect())
}
