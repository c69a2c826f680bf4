//! `cargo xtask test`: every check, cheapest first; continuous integration runs exactly this.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{clients, conformance, deps, differential, run::Program, setup, tidy};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, by name; all when empty
    steps: Vec<String>,
}

struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "setup", run: setup::for_tests },
    Step { name: "tidy", run: tidy::check },
    Step { name: "deps", run: deps::check },
    Step { name: "format", run: format },
    Step { name: "clippy", run: clippy },
    Step { name: "build", run: build },
    Step { name: "tests", run: tests },
    Step { name: "clients", run: clients::run },
    Step { name: "differential", run: differential::step },
    Step { name: "conformance", run: conformance::step },
    Step { name: "smoke", run: smoke },
];

pub(crate) fn test(args: &Args) -> Result<()> {
    if let Some(unknown) = args.steps.iter().find(|name| STEPS.iter().all(|s| s.name != *name)) {
        let names: Vec<&str> = STEPS.iter().map(|s| s.name).collect();
        bail!("no step is called {unknown:?}; there are {}", names.join(", "));
    }
    let chosen = STEPS.iter().filter(|s| args.steps.is_empty() || args.steps.iter().any(|name| s.name == name));
    for step in chosen {
        println!("== {}", step.name);
        let started = Instant::now();
        (step.run)().with_context(|| format!("step {} failed", step.name))?;
        println!("== {} took {:.1} s", step.name, started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn format() -> Result<()> {
    Program::cargo().args(["fmt", "--all", "--check"]).run()
}

fn clippy() -> Result<()> {
    Program::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
}

/// The binary, which integration tests of other crates start.
fn build() -> Result<()> {
    Program::cargo().args(["build", "--package", "ironclad"]).run()
}

/// Unit and integration tests, all but the smoke test, which has a step of its own. All of them run, whatever fails.
fn tests() -> Result<()> {
    let targets = ["--lib", "--bins", "--test", "it", "--test", "join"];
    Program::cargo().args(["test", "--workspace", "--exclude", "xtask", "--no-fail-fast"]).args(targets).run()
}

fn smoke() -> Result<()> {
    Program::cargo().args(["test", "--package", "ironclad", "--test", "smoke"]).run()
}
