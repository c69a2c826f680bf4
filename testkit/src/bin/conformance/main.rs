//! `cargo xtask conformance`: upstream's suite, unmodified, against this tree's binary.
//!
//! ```text
//! list    list.rs     which tests, and which are known to fail
//! target  plane.rs    API server and controllers alone: the shards that need no node
//!         cluster.rs  `ironclad up` with two nodes and the images of images.rs: everything else
//!         registry.rs the same images for those who pull, on the cluster's wire
//! run     suite.rs    ginkgo and e2e.test, with the content types that the suite itself chooses
//! archive report.rs   conformance/results: summary as JSON and Markdown, the README's score table
//! ```

mod cluster;
mod images;
mod list;
mod plane;
mod registry;
mod report;
mod suite;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use list::{Known, Test};
use report::{Entry, Facts, Summary};
use suite::{Done, Outcome, Run};

/// The shards that need no node.
const WITHOUT_NODES: [&str; 2] = ["api", "controllers"];

/// How long the tests together may take that would wait for ever.
const ENDLESS: Duration = Duration::from_secs(180);

/// Runs upstream's conformance suite and archives the score.
#[derive(clap::Parser)]
struct Args {
    /// Only this shard of conformance/e2e/tests.txt; may be given more than once. Everything when absent
    #[arg(long)]
    shard: Vec<String>,
    /// Only tests whose name matches; such a run is not archived
    #[arg(long)]
    focus: Option<regex::Regex>,
    /// One test at a time
    #[arg(long)]
    serial: bool,
    /// How many tests run beside each other
    #[arg(long, default_value_t = 4)]
    procs: usize,
    /// What the API server stores objects in
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    backend: Backend,
    /// Run twice, and list what ended differently
    #[arg(long)]
    repeat: bool,
    /// How long a run may take; tests that have not begun by then count as not run
    #[arg(long, default_value_t = 75)]
    minutes: u64,
    /// Take what passed off the list of known failures (or write the first list)
    #[arg(long)]
    shrink: bool,
    /// Leave out what is known to fail, let every other test pass, and archive nothing
    #[arg(long, conflicts_with_all = ["repeat", "shrink"])]
    check: bool,
    /// Only write the archive of the images, to this file
    #[arg(long)]
    images: Option<PathBuf>,
    /// Keep the control plane's or the cluster's files
    #[arg(long)]
    keep: bool,
    /// The program under test; IRONCLAD when absent
    #[arg(long, env = "IRONCLAD")]
    ironclad: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    Embedded,
    Etcd,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let conformance = root().join("conformance");
    if let Some(archive) = &args.images {
        return images::write(&conformance, archive).map(drop);
    }
    let tests = list::of_shards(list::all(&conformance)?, &args.shard)?;
    let is_chosen = |test: &Test| args.focus.as_ref().is_none_or(|focus| focus.is_match(&test.name));
    let mut tests: Vec<Test> = tests.into_iter().filter(is_chosen).collect();
    if args.check {
        Known::read(&conformance)?.leave_out(&mut tests);
    }
    ensure!(!tests.is_empty(), "no test matches");
    let (mut summary, done) = measure(&args, &tests)?;
    if args.repeat {
        let (_, again) = measure(&args, &tests)?;
        summary.differ = difference(&done, &again);
    }
    say(&summary);
    if args.check { every_one_passed(&done) } else { finish(&args, &summary, &done) }
}

/// The repository's root.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("testkit lies in the repository's root").to_owned()
}

/// The name of the run in the archive.
fn what(args: &Args) -> String {
    let shards = if args.shard.is_empty() { "whole".to_owned() } else { args.shard.join("-") };
    if args.backend == Backend::Etcd { shards + "-etcd" } else { shards }
}

/// One run on a fresh target.
fn measure(args: &Args, tests: &[Test]) -> Result<(Summary, Vec<Done>)> {
    let conformance = root().join("conformance");
    let programs = conformance.join("bin");
    let ironclad = args.ironclad.as_deref().context("give the program under test: --ironclad or IRONCLAD")?;
    // Not on a memory file system: the store has to wait for a disk, and hosts need a disk below them.
    let mut folder = tempfile::Builder::new().prefix("ironclad-conformance-").tempdir_in("/var/tmp")?;
    folder.disable_cleanup(args.keep);
    let needs_nodes = tests.iter().any(|test| !WITHOUT_NODES.contains(&test.shard.as_str()));
    // The registry ends before the cluster whose network it is in.
    let (_plane, _cluster, _registry, kubeconfig, runtime);
    if needs_nodes {
        ensure!(
            args.backend == Backend::Embedded,
            "`ironclad up` has no etcd: only embedded can be measured with nodes"
        );
        let cluster = cluster::Cluster::start(ironclad, folder.path())?;
        let archive = folder.path().join("images.tar");
        let made = images::write(&conformance, &archive)?;
        cluster.load(&archive)?;
        std::fs::remove_file(archive)?;
        let address = cluster.first_address(&programs.join("kubectl"))?;
        _registry = registry::Registry::start(&made, &cluster.hosts(), &address, folder.path())?;
        (kubeconfig, runtime) = (cluster.kubeconfig(), cluster.runtime(&programs.join("kubectl"))?);
        _cluster = cluster;
    } else {
        let plane = plane::Plane::start(ironclad, &programs, folder.path(), args.backend)?;
        (kubeconfig, runtime) = (plane.kubeconfig(), "no nodes".to_owned());
        _plane = plane;
    }
    let what = what(args);
    let stamp = daemon::clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let output = conformance.join("results/logs").join(format!("{what}-{stamp}"));
    println!("{} tests; files in {}, output in {}", tests.len(), folder.path().display(), output.display());
    let (tests, endless) = list::split_endless(&conformance, tests)?;
    let run = Run {
        programs: &programs,
        kubeconfig: &kubeconfig,
        output: &output,
        nodes: needs_nodes,
        procs: if args.serial { 1 } else { args.procs },
        budget: Duration::from_secs(args.minutes * 60),
        seed: args.repeat.then_some(1),
    };
    let (mut done, wall) = run.run(&tests)?;
    let last = Run { output: &output.join("endless"), procs: endless.len(), budget: ENDLESS, ..run };
    let (endless, more) = last.run(&endless)?;
    done.extend(endless);
    let backend = format!("{:?}", args.backend).to_lowercase();
    let facts = Facts { what, backend, runtime, procs: run.procs, budget: run.budget };
    let summary = Summary::new(&facts, &done, wall + more)?;
    summary.write(&output)?;
    Ok((summary, done))
}

/// The tests that ended differently.
fn difference(one: &[Done], other: &[Done]) -> Vec<Entry> {
    let pairs = one.iter().zip(other).filter(|(one, other)| one.outcome != other.outcome);
    pairs
        .map(|(one, other)| {
            let worse = if one.outcome == Outcome::Passed { other } else { one };
            Entry {
                error: format!("{:?}, then {:?}: {}", one.outcome, other.outcome, worse.error),
                ..Entry::new(worse)
            }
        })
        .collect()
}

/// Prints the score and the reasons why it is not better.
fn say(summary: &Summary) {
    for Entry { name, error, .. } in &summary.failed {
        println!("FAILED {name}\n       {error}");
    }
    println!(
        "{} of {} passed, {} failed, {} skipped, {} not run, in {} s",
        summary.passed,
        summary.total,
        summary.failed.len(),
        summary.skipped.len(),
        summary.not_run.len(),
        summary.wall_seconds
    );
    for Entry { name, error, .. } in &summary.differ {
        println!("DIFFERS {name}\n        {error}");
    }
}

/// Fails unless every test was reached and passed.
fn every_one_passed(done: &[Done]) -> Result<()> {
    let others: Vec<String> = done
        .iter()
        .filter(|done| done.outcome != Outcome::Passed)
        .map(|done| format!("{:?} {}", done.outcome, done.test.name))
        .collect();
    ensure!(others.is_empty(), "these are to pass and did not:\n{}", others.join("\n"));
    Ok(())
}

/// Archives, compares with what is known, and fails when something got worse, or better than the list says.
fn finish(args: &Args, summary: &Summary, done: &[Done]) -> Result<()> {
    let conformance = root().join("conformance");
    let names =
        |outcome| done.iter().filter(|d| d.outcome == outcome).map(|d| d.test.name.as_str()).collect::<Vec<_>>();
    let (passed, failed) = (names(Outcome::Passed), names(Outcome::Failed));
    let known = Known::read(&conformance)?;
    if args.focus.is_none() {
        let results = conformance.join("results");
        summary.write(&results)?;
        report::write_readme(&root().join("README.md"), &results)?;
    }
    let surprises = known.surprises(&passed, &failed);
    if args.shrink {
        ensure!(args.focus.is_none(), "a run with --focus does not say what is on the list of known failures");
        known.shrink(&passed, &failed)?;
    }
    if !surprises.broken.is_empty() {
        bail!("these are not known to fail:\n{}", surprises.broken.join("\n"));
    }
    if !args.shrink && !surprises.mended.is_empty() {
        bail!("these pass; take them off the list with --shrink:\n{}", surprises.mended.join("\n"));
    }
    Ok(())
}
