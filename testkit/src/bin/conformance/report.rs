//! What a run leaves: a summary as JSON and Markdown, and the README's score table.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::suite::{Done, Outcome};

const BEGIN: &str = "<!-- conformance: written by cargo xtask conformance -->\n";
const END: &str = "<!-- end of conformance -->";

/// The summary of a run, as it is archived.
#[derive(Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The shards, or `whole`.
    pub(crate) what: String,
    pub(crate) commit: String,
    /// Changes that are not in the commit.
    pub(crate) modified: bool,
    pub(crate) date: String,
    pub(crate) release: String,
    pub(crate) backend: String,
    pub(crate) kernel: String,
    pub(crate) runtime: String,
    pub(crate) processors: usize,
    pub(crate) procs: usize,
    pub(crate) budget_seconds: u64,
    pub(crate) wall_seconds: u64,
    pub(crate) total: usize,
    pub(crate) passed: usize,
    pub(crate) by_shard: Vec<(String, usize, usize)>,
    pub(crate) failed: Vec<Entry>,
    pub(crate) skipped: Vec<Entry>,
    pub(crate) not_run: Vec<Entry>,
    /// Ended differently in the second of two runs.
    pub(crate) differ: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shard: String,
    pub(crate) seconds: u64,
    pub(crate) error: String,
}

/// What a run was made with.
pub(crate) struct Facts {
    pub(crate) what: String,
    pub(crate) backend: String,
    pub(crate) runtime: String,
    pub(crate) procs: usize,
    pub(crate) budget: Duration,
}

impl Summary {
    pub(crate) fn new(facts: &Facts, done: &[Done], wall: Duration) -> Result<Self> {
        let root = crate::root();
        let git = |args: &[&str]| printed(Command::new("git").args(args).current_dir(&root));
        let of = |outcome| done.iter().filter(|done| done.outcome == outcome).map(Entry::new).collect::<Vec<_>>();
        Ok(Self {
            what: facts.what.clone(),
            commit: git(&["rev-parse", "--short=12", "HEAD"])?,
            modified: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
            date: daemon::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            release: printed(
                Command::new("go")
                    .args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])
                    .current_dir(root.join("conformance")),
            )?,
            backend: facts.backend.clone(),
            kernel: printed(Command::new("uname").arg("-r"))?,
            runtime: facts.runtime.clone(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            procs: facts.procs,
            budget_seconds: facts.budget.as_secs(),
            wall_seconds: wall.as_secs(),
            total: done.len(),
            passed: of(Outcome::Passed).len(),
            by_shard: by_shard(done),
            failed: of(Outcome::Failed),
            skipped: of(Outcome::Skipped),
            not_run: of(Outcome::NotRun),
            differ: Vec::new(),
        })
    }

    /// Writes `<what>.json` and `<what>.md`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let write = |ending: &str, text: String| {
            let path = folder.join(format!("{}.{ending}", self.what));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("json", serde_json::to_string_pretty(self)? + "\n")?;
        write("md", self.markdown())
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# Conformance, {}: {} of {} passed\n\nUpstream's suite {} on commit {}{}, {}: {} store, Linux {}, {}; {} \
             processes on {} processors, {} s of {} s.\n",
            self.what,
            self.passed,
            self.total,
            self.release,
            self.commit,
            if self.modified { " with changes" } else { "" },
            self.date,
            self.backend,
            self.kernel,
            self.runtime,
            self.procs,
            self.processors,
            self.wall_seconds,
            self.budget_seconds,
        );
        if self.by_shard.len() > 1 {
            text.push_str("\n| shard | passed | of |\n|---|---:|---:|\n");
            for (shard, passed, total) in &self.by_shard {
                let _ = writeln!(text, "| {shard} | {passed} | {total} |");
            }
        }
        let parts = [
            ("Failed", &self.failed),
            ("Skipped", &self.skipped),
            ("Not run: the time was over", &self.not_run),
            ("Ended differently in a second run", &self.differ),
        ];
        for (title, entries) in parts.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            let _ = writeln!(text, "\n## {title} ({})\n", entries.len());
            for Entry { name, shard, seconds, error } in entries {
                let _ = writeln!(text, "- **{name}** ({shard}, {seconds} s)\n  `{}`", error.replace('`', "'"));
            }
        }
        text
    }
}

impl Entry {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test")]
    pub(crate) fn new(done: &Done) -> Self {
        Self {
            name: done.test.name.clone(),
            shard: done.test.shard.clone(),
            seconds: done.seconds as u64,
            error: done.error.clone(),
        }
    }
}

fn by_shard(done: &[Done]) -> Vec<(String, usize, usize)> {
    let mut counts: Vec<(String, usize, usize)> = Vec::new();
    for done in done {
        let shard = &done.test.shard;
        let index = counts.iter().position(|(name, ..)| name == shard).unwrap_or_else(|| {
            counts.push((shard.clone(), 0, 0));
            counts.len() - 1
        });
        counts[index].1 += usize::from(done.outcome == Outcome::Passed);
        counts[index].2 += 1;
    }
    counts
}

/// Writes the score table into the README, from the archived summaries.
pub(crate) fn write_readme(readme: &Path, results: &Path) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let written = replace(&text, &table(results)?).with_context(|| format!("in {}", readme.display()))?;
    fs::write(readme, written).with_context(|| format!("cannot write {}", readme.display()))
}

fn replace(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("there is no place for the score table")?;
    let (_, after) = rest.split_once(END).context("the place for the score table has no end")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn table(results: &Path) -> Result<String> {
    let mut summaries = Vec::new();
    for what in ["whole", "api", "controllers", "api-etcd", "controllers-etcd"] {
        match fs::read_to_string(results.join(format!("{what}.json"))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            text => summaries.push(serde_json::from_str::<Summary>(&text?)?),
        }
    }
    let mut table = String::from("| run | passed | of | commit | minutes |\n|---|---:|---:|---|---:|\n");
    for Summary { what, passed, total, commit, wall_seconds, .. } in &summaries {
        let minutes = wall_seconds.div_ceil(60);
        let _ =
            writeln!(table, "| [{what}](conformance/results/{what}.md) | {passed} | {total} | {commit} | {minutes} |");
    }
    if let Some(whole) = summaries.iter().find(|summary| summary.what == "whole") {
        let shards = whole.by_shard.iter().map(|(shard, passed, total)| format!("{shard} {passed}/{total}"));
        let _ = writeln!(table, "\nOf the whole: {}.", shards.collect::<Vec<_>>().join(", "));
    }
    Ok(table)
}

fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_between_its_marks() {
        let text = format!("before\n{BEGIN}old{END}\nafter");
        assert_eq!(replace(&text, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}\nafter"));
        assert!(replace("nothing", "new").is_err());
    }
}
