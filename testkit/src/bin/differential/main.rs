//! Sends the same requests to upstream's API server and to ours, and says where the answers differ.
//!
//! ```text
//! corpus (data) -> run -> normal -> compare with the recording, or with upstream's live -> report, known gaps
//! ```
//! The run fails for a difference that is not among the known ones, and for a known one that is gone. The corpus and
//! the recording stand in `conformance/differential`.

mod client;
mod compare;
mod corpus;
mod gaps;
mod normal;
mod recording;
mod report;
mod run;
mod server;
mod template;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use self::{corpus::Sequence, gaps::Gap, recording::Recording, report::Report, server::Which};

#[derive(Parser)]
#[command(about = "Compares our API server's answers with upstream's")]
struct Args {
    /// The folder of the corpus and the recording
    #[arg(long)]
    folder: PathBuf,
    /// Our program
    #[arg(long)]
    server: PathBuf,
    /// The folder with upstream's kube-apiserver and etcd
    #[arg(long)]
    upstream: PathBuf,
    /// What to compare with
    #[arg(long, default_value = "recorded")]
    against: Against,
    /// Ask upstream's server and write its answers down; differences of requests that were not recorded before become known
    #[arg(long)]
    record: bool,
    /// Take what is gone out of the known differences
    #[arg(long)]
    shrink: bool,
    /// Only sequences whose name contains this; known differences are then those of these sequences
    #[arg(long, default_value = "")]
    only: String,
    /// Print the differences of requests and classes that contain this
    #[arg(long)]
    show: Option<String>,
    /// Print long values in full
    #[arg(long)]
    whole: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Against {
    Recorded,
    Upstream,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = perform(&Args::parse()).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn perform(args: &Args) -> Result<()> {
    let mut corpus = corpus::load(&args.folder)?;
    corpus.retain(|sequence| sequence.name.contains(&args.only));
    let before = Recording::load(&args.folder.join("recorded"))?;
    let recorded = theirs(args, &corpus).await?;
    let report = compare(args, &corpus, &recorded).await?;
    report.print_classes();
    if let Some(text) = &args.show {
        report.print(text, args.whole);
    }
    judge(args, &corpus, &report, &before)
}

/// Upstream's answers.
async fn theirs(args: &Args, corpus: &[Sequence]) -> Result<Recording> {
    let mut folder = args.folder.join("recorded");
    let live = tempfile::tempdir()?;
    if args.record || args.against == Against::Upstream {
        if !args.record {
            folder = live.path().to_owned();
        }
        let answers = run::run(&Which::Upstream(args.upstream.clone()), corpus).await.context("upstream's server")?;
        for (sequence, answers) in corpus.iter().zip(&answers) {
            recording::store(&folder, &sequence.name, answers)?;
        }
    }
    Recording::load(&folder)
}

async fn compare(args: &Args, corpus: &[Sequence], recorded: &Recording) -> Result<Report> {
    let answers = run::run(&Which::Ours(args.server.clone()), corpus).await.context("our server")?;
    let mut report = Report::default();
    for (sequence, answers) in corpus.iter().zip(&answers) {
        for ours in answers {
            let title = format!("{}: {}", sequence.name, ours.name);
            let theirs = recorded.get(&sequence.name, &ours.name);
            let theirs = theirs.with_context(|| format!("{title} is not recorded: run with --record"))?;
            report.add(title, compare::compare(ours, theirs));
        }
    }
    Ok(report)
}

/// Holds the differences against those that are known.
fn judge(args: &Args, corpus: &[Sequence], report: &Report, before: &Recording) -> Result<()> {
    let path = args.folder.join("known-gaps.txt");
    let mut listed = gaps::load(&path)?;
    let sequence = |gap: &Gap| gap.1.split(": ").next().unwrap_or_default().to_owned();
    let asked = |gap: &&Gap| corpus.iter().any(|one| one.name == sequence(gap)) || args.only.is_empty();
    let found = report.gaps();
    let gone: BTreeSet<Gap> = listed.iter().filter(asked).filter(|gap| !found.contains(*gap)).cloned().collect();
    let mut new: BTreeSet<Gap> = found.difference(&listed).cloned().collect();
    if args.record {
        let unheard = |(_, request): &Gap| {
            let (sequence, step) = request.split_once(": ").unwrap_or_default();
            before.get(sequence, step).is_none()
        };
        let of_new_requests: BTreeSet<Gap> = new.iter().filter(|gap| unheard(gap)).cloned().collect();
        new.retain(|gap| !of_new_requests.contains(gap));
        listed.extend(of_new_requests);
    }
    if args.record || args.shrink {
        listed.retain(|gap| !gone.contains(gap));
        gaps::store(&path, &listed)?;
    }
    for (class, request) in new.iter().take(40) {
        println!("not known: [{class}] {request}");
    }
    ensure!(new.is_empty(), "{} differences are not known; --show TEXT prints them", new.len());
    let stays = args.record || args.shrink || gone.is_empty();
    for (class, request) in gone.iter().take(40).filter(|_| !stays) {
        println!("gone: [{class}] {request}");
    }
    ensure!(stays, "{} known differences are gone: take them out with --shrink", gone.len());
    Ok(())
}
