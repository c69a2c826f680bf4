//! The subcommands.

mod agent;
mod backup;
mod component;
mod down;
mod host_enter;
mod host_forward;
mod image;
mod kubeconfig;
mod logging;
mod restore;
mod server;
mod status;
mod token;
mod up;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// A Kubernetes cluster in one binary.
#[derive(Parser)]
#[command(name = "ironclad", version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    logging: logging::Args,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster of throw-away hosts on this machine, or start it again
    Up(up::Args),
    /// End such a cluster and leave nothing behind
    Down(down::Args),
    /// Show the clusters of this machine, their nodes and processes
    Status(status::Args),
    /// Print a cluster's kubeconfig
    Kubeconfig(kubeconfig::Args),
    /// Make, list and delete the tokens that let nodes join
    Token(token::Args),
    /// Bring images to the nodes
    #[command(subcommand)]
    Image(image::Command),
    /// Run a control plane and a node on this host
    Server(server::Args),
    /// Run a node on this host and join it to a cluster
    Agent(agent::Args),
    /// Run the API server alone
    Apiserver(Box<component::ApiServer>),
    /// Run the controllers alone
    ControllerManager(component::ControllerManager),
    /// Run the scheduler alone
    Scheduler(component::Scheduler),
    /// Run the kubelet alone
    Kubelet(Box<component::Kubelet>),
    /// Run the service proxy alone
    Proxy(component::Proxy),
    /// Run cluster DNS
    Dns(component::Dns),
    /// Serve etcd's v3 protocol from a directory, for API servers and etcdctl
    Etcd(Box<component::Etcd>),
    /// Write everything in the embedded store to a file, while it is in use or not
    Backup(backup::Args),
    /// Make an embedded store from such a file
    Restore(restore::Args),
    /// Print the version
    Version(version::Args),
    /// Be the first process of a throw-away host
    #[command(hide = true)]
    HostInit,
    /// Run a command in a throw-away host
    #[command(hide = true)]
    HostEnter(host_enter::Args),
    /// Copy connections from a handed-in socket
    #[command(hide = true)]
    HostForward(host_forward::Args),
}

/// Upstream's programs, and what stands in for each: started under one of these names, as through a symbolic link, the
/// binary is that program.
const UPSTREAM: &[(&str, &str)] = &[
    ("kube-apiserver", "apiserver"),
    ("kube-controller-manager", "controller-manager"),
    ("kube-scheduler", "scheduler"),
    ("kubelet", "kubelet"),
    ("kube-proxy", "proxy"),
    ("etcd", "etcd"),
];

/// The arguments with the subcommand that the program's name stands for.
fn named(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    let found = UPSTREAM.iter().find(|(program, _)| name.is_some_and(|name| name == *program));
    if let Some((_, subcommand)) = found {
        arguments.insert(1, (*subcommand).into());
    }
    arguments
}

/// Parses the arguments and runs the subcommand.
pub(crate) fn run() -> Result<ExitCode> {
    let cli = Cli::parse_from(named(std::env::args_os().collect()));
    match cli.command {
        // Before any thread and any runtime.
        Command::HostInit => return Ok(code(host::init::run())),
        Command::HostEnter(args) => return host_enter::run(args).map(code),
        Command::Version(args) => return version::run(args).map(done),
        _ => {}
    }
    cli.logging.init()?;
    pki::tls::install_default_provider();
    let mut runtime = match cli.command {
        // One small job: threads of its own would cost more than they give.
        Command::HostForward(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().context("cannot start the async runtime")?;
    runtime.block_on(run_async(cli.command)).map(done)
}

async fn run_async(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Down(args) => down::run(&args),
        Command::Status(args) => status::run(&args).await,
        Command::Kubeconfig(args) => kubeconfig::run(&args),
        Command::Token(args) => token::run(args).await,
        Command::Image(command) => image::run(command).await,
        Command::Server(args) => server::run(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Apiserver(args) => args.run().await,
        Command::ControllerManager(args) => args.run().await,
        Command::Scheduler(args) => args.run().await,
        Command::Kubelet(args) => args.run().await,
        Command::Proxy(args) => args.run().await,
        Command::Dns(args) => args.run().await,
        Command::Etcd(args) => args.run().await,
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::HostForward(args) => host_forward::run(args).await,
        Command::Version(_) | Command::HostInit | Command::HostEnter(_) => {
            unreachable!("handled before the runtime was started")
        }
    }
}

fn done(_: ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_program_is_what_it_is_called() {
        let after = |words: &[&str]| named(words.iter().map(OsString::from).collect());
        assert_eq!(after(&["/tmp/bin/kube-apiserver", "--v=2"]), ["/tmp/bin/kube-apiserver", "apiserver", "--v=2"]);
        assert_eq!(after(&["kube-proxy"]), ["kube-proxy", "proxy"]);
        assert_eq!(after(&["/usr/local/bin/ironclad", "up"]), ["/usr/local/bin/ironclad", "up"]);
        assert_eq!(after(&["ironclad-kubelet", "up"]), ["ironclad-kubelet", "up"]);
    }

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
        crate::node::Flags::<apiserver::Args>::command().debug_assert();
        crate::node::Flags::<controllers::Args>::command().debug_assert();
        crate::node::Flags::<kubelet::Args>::command().debug_assert();
        crate::node::Flags::<overlay::Args>::command().debug_assert();
        crate::node::Flags::<proxy::Args>::command().debug_assert();
        crate::node::Flags::<scheduler::Args>::command().debug_assert();
    }
}
