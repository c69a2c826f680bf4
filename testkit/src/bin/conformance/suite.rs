//! A run of `e2e.test` by ginkgo, and its report.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::list::Test;

/// How long ginkgo may take to interrupt tests and to write its report, after its own time is over.
const REPORT_GRACE: Duration = Duration::from_secs(300);
/// Longest error that a summary shows.
const ERROR_CHARACTERS: usize = 400;

/// How to run.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// Where upstream's programs are.
    pub(crate) programs: &'a Path,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) output: &'a Path,
    /// Whether there are nodes that run pods.
    pub(crate) nodes: bool,
    pub(crate) procs: usize,
    pub(crate) budget: Duration,
    pub(crate) seed: Option<u64>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
    /// The time was over before it began.
    NotRun,
}

/// A test and how it ended.
pub(crate) struct Done {
    pub(crate) test: Test,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    /// Empty when it passed.
    pub(crate) error: String,
}

impl Run<'_> {
    /// Runs these tests; how each ended, and how long all took. None is a run, too.
    pub(crate) fn run(&self, tests: &[Test]) -> Result<(Vec<Done>, Duration)> {
        if tests.is_empty() {
            return Ok((Vec::new(), Duration::ZERO));
        }
        fs::create_dir_all(self.output)?;
        let log = self.output.join("log.txt");
        let started = Instant::now();
        let mut command = self.command(tests);
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::create(self.output.join("errors.txt"))?);
        let mut child = command.spawn().context("cannot start ginkgo")?;
        let deadline = started + self.budget + REPORT_GRACE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                bail!("ginkgo did not end {} s after its time; see {}", REPORT_GRACE.as_secs(), log.display());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let report = self.output.join("report.json");
        let Ok(text) = fs::read_to_string(&report) else {
            bail!("ginkgo wrote no report; see {}", log.display());
        };
        let done = parse(&text, tests).with_context(|| format!("{} is not usable", report.display()))?;
        // The complete report holds every test that was not chosen, too.
        fs::remove_file(report)?;
        Ok((done, started.elapsed()))
    }

    fn command(&self, tests: &[Test]) -> Command {
        let mut command = Command::new(self.programs.join("ginkgo"));
        command.args(["--no-color", "--json-report=report.json", "--junit-report=junit.xml"]);
        command.arg(format!("--procs={}", self.procs));
        command.arg(format!("--timeout={}s", self.budget.as_secs()));
        command.arg(format!("--output-dir={}", self.output.display()));
        command.args(self.seed.map(|seed| format!("--seed={seed}")));
        // The text that ginkgo matches begins with the suite's own name.
        command.args(tests.iter().map(|test| format!("--focus= {}$", regex::escape(&test.name))));
        command.arg(self.programs.join("e2e.test")).arg("--");
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        command.arg(format!("--kubectl-path={}", self.programs.join("kubectl").display()));
        command.args(["--provider=skeleton", "--disable-log-dump"]);
        if !self.nodes {
            command.args(["--allowed-not-ready-nodes=-1", "--minStartupPods=-1"]);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(PathBuf::from(self.programs)).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        command
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    run_time: u64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: Option<String>,
}

/// How the tests ended. A set-up of the suite that failed fails all.
fn parse(report: &str, tests: &[Test]) -> Result<Vec<Done>> {
    let suites: Vec<Suite> = serde_json::from_str(report)?;
    let specs = || suites.iter().flat_map(|suite| &suite.spec_reports);
    let set_up = specs().find(|spec| spec.leaf_node_type.contains("BeforeSuite") && spec.state == "failed");
    if let Some(spec) = set_up {
        bail!("the suite could not begin: {}", spec.error());
    }
    let of = |test: &Test| specs().find(|spec| spec.leaf_node_type == "It" && spec.name() == test.name);
    tests
        .iter()
        .map(|test| of(test).map(|spec| spec.done(test)).with_context(|| format!("no {:?}", test.name)))
        .collect()
}

impl Spec {
    fn name(&self) -> String {
        let containers = self.container_hierarchy_texts.iter().flatten().map(String::as_str);
        containers.chain([self.leaf_node_text.as_str()]).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn error(&self) -> String {
        headline(self.failure.as_ref().and_then(|failure| failure.message.as_deref()).unwrap_or_default())
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a test, shown as seconds")]
    fn done(&self, test: &Test) -> Done {
        let outcome = match self.state.as_str() {
            "passed" => Outcome::Passed,
            "skipped" | "pending" if self.run_time > 0 => Outcome::Skipped,
            "skipped" | "pending" => Outcome::NotRun,
            _ => Outcome::Failed,
        };
        let mut error = if outcome == Outcome::Passed { String::new() } else { self.error() };
        if outcome == Outcome::Failed && self.state != "failed" {
            error = format!("{}: {error}", self.state);
        }
        Done { test: test.clone(), outcome, seconds: self.run_time as f64 / 1e9, error }
    }
}

/// The part of a message that says what is wrong: its first lines, without Go's types and what stands in braces.
fn headline(message: &str) -> String {
    let is_type = |line: &str| line.starts_with("<*") || line.starts_with('{') || line.starts_with('}');
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty() && !is_type(line));
    let joined = lines.take(4).collect::<Vec<_>>().join(" | ");
    joined.chars().take(ERROR_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_each_test_ended() {
        let report = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": ["[sig-a] A"], "LeafNodeType": "It", "LeafNodeText": "passes",
             "State": "passed", "RunTime": 1500000000},
            {"ContainerHierarchyTexts": ["[sig-a] A", ""], "LeafNodeType": "It", "LeafNodeText": "fails",
             "State": "timedout", "RunTime": 1, "Failure": {"Message": "\n  a\n  <*x.Y | 0x1>:\n  b\n"}},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "It", "LeafNodeText": "waits",
             "State": "skipped", "RunTime": 0}]}]"#;
        let tests = ["[sig-a] A passes", "[sig-a] A fails", "waits"]
            .map(|name| Test { shard: "a".to_owned(), name: name.to_owned() });
        let done = parse(report, &tests).unwrap();
        let outcomes: Vec<Outcome> = done.iter().map(|done| done.outcome).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, Outcome::NotRun]);
        assert_eq!(done[1].error, "timedout: a | b");
        let missing = Test { shard: "a".to_owned(), name: "gone".to_owned() };
        assert!(parse(report, &[missing]).is_err());
    }
}
