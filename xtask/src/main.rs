//! Developer tasks: `cargo xtask <task>`. `up` and `test` are the two that README promises.
//!
//! A task is one file; it runs other programs and reads the tree, and links nothing of the product.

mod clients;
mod conformance;
mod deps;
mod descriptions;
mod differential;
mod run;
mod setup;
mod soak;
mod test;
mod tidy;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Ironclad's developer tasks")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build, and run a cluster
    Up(up::Args),
    /// Install what is missing and run every test
    Test(test::Args),
    /// Run the fault tests for longer than `test` does
    Soak(soak::Args),
    /// Check the budgets of STYLE: file sizes, module docs, where unsafe code may stand
    Tidy,
    /// Check the edges between crates
    Deps,
    /// Compare our API server's answers with upstream's
    Differential(differential::Args),
    /// Regenerate the schema table from upstream's Go modules, and the descriptions
    Schema,
    /// Regenerate the field descriptions from the k8s-openapi crate alone
    Descriptions,
    /// Print measured tables: cargo xtask bench [store|api|cluster]
    Bench(up::BenchArgs),
    /// Run upstream's conformance suite against this tree: cargo xtask conformance [--shard api]
    Conformance(conformance::Args),
    /// Install the programs that the cluster and the tests need
    Setup,
}

fn main() -> ExitCode {
    let Err(error) = perform(Args::parse().task) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Up(args) => up::up(&args),
        Task::Test(args) => test::test(&args),
        Task::Soak(args) => soak::soak(&args),
        Task::Tidy => tidy::check(),
        Task::Deps => deps::check(),
        Task::Differential(args) => differential::run(&args),
        Task::Schema => {
            run::Program::new("./regenerate").within("conformance/schema").run()?;
            descriptions::write()
        }
        Task::Descriptions => descriptions::write(),
        Task::Bench(args) => up::bench(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Setup => setup::for_tests(),
    }
}
