//! The `ironclad` binary: every part of a cluster, one subcommand each.
//!
//! Constraints, in order: this is the only crate that reads arguments and the environment; a subcommand lives in one
//! file of [`command`], which turns arguments into a component's configuration and runs it; what becomes another
//! process's first steps (`host-init`, `host-enter`) runs before any thread is started.

mod addons;
mod bundle;
mod client;
mod cluster;
mod command;
mod environment;
mod node;
mod paths;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
