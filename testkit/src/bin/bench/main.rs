//! `cargo xtask bench`: what the product takes and how fast it answers, measured on this machine. No pass condition.
//!
//! Processor time comes first, from the server's own accounting: neighbours bend rates, and bend it far less. Every
//! table says what was measured, and the budget of the design beside it. Loops end by count and by time. Nodes are
//! throw-away hosts without a way out, and are taken away at the end.
//!
//! ```text
//! binary                          size
//! api      server.rs              `ironclad apiserver` alone: start, then
//!          requests.rs watchers.rs  load over HTTPS/2 (connection.rs, load.rs); any server with --kubeconfig
//!          compare.rs upstream.rs   the same on ours and upstream's in turn, with --against upstream
//! scale    scale.rs                memory a pod with many of them, and the start with all of them (subject.rs)
//! cluster  cluster.rs pods.rs     `ironclad up`: cold, again, pods, and at rest (process.rs)
//! store                           `cargo bench -p store --bench store`; with --against upstream
//!          puts.rs                 the same puts to `ironclad etcd` and to etcd in turn
//! ```

mod cluster;
mod compare;
mod connection;
mod events;
mod kubeconfig;
mod load;
mod objects;
mod pods;
mod process;
mod puts;
mod report;
mod requests;
mod scale;
mod server;
mod subject;
mod upstream;
mod watchers;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use report::Table;

/// Measures Ironclad, or with --kubeconfig the API server of any cluster.
#[derive(clap::Parser)]
struct Args {
    /// What to measure; everything when empty
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Measure this API server instead of starting one (part `api`)
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Processes whose time counts as the server's, with --kubeconfig
    #[arg(long)]
    pid: Vec<u32>,
    /// Measure another server in turn with ours, and print both and the ratio (parts `api`, `scale` and `store`)
    #[arg(long, value_enum, conflicts_with = "kubeconfig")]
    against: Option<Peer>,
    /// How often each is measured, with --against; the table has the medians
    #[arg(long, visible_alias = "rounds", default_value_t = 5)]
    runs: usize,
    /// Less of everything, for a look: one run, a second a row, 100 watchers, 10,000 pods. About five minutes with
    /// --against
    #[arg(long, conflicts_with_all = ["runs", "seconds", "watchers", "pods", "idle_seconds"])]
    quick: bool,
    /// How many watchers follow a collection, one row each
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    watchers: Vec<usize>,
    /// With how many pods memory is looked at, one row each (part `scale`)
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    pods: Vec<usize>,
    /// How long processes at rest are watched
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// How long one row of requests may take
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The program under test; IRONCLAD when absent
    #[arg(long, env = "IRONCLAD")]
    ironclad: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Binary,
    Api,
    Scale,
    Cluster,
    Store,
}

/// What ours is compared with.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    /// kube-apiserver and etcd, built from conformance's Go module
    Upstream,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let args = Args::parse().made_quick();
    let is_wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    println!("{}", report::machine());
    let mut failures = Vec::new();
    if is_wanted(Part::Binary) {
        failures.extend(args.program().and_then(binary).err());
    }
    if is_wanted(Part::Api) {
        failures.extend(api(&args).await.err());
    }
    if is_wanted(Part::Scale) {
        failures.extend(scale(&args).await.err());
    }
    if is_wanted(Part::Cluster) {
        failures.extend(cluster(&args).await.err());
    }
    if is_wanted(Part::Store) {
        failures.extend(store(&args).await.err());
    }
    // One part that cannot be measured does not hide the others.
    for failure in &failures {
        eprintln!("not measured: {failure:#}");
    }
    ensure!(failures.is_empty(), "{} parts could not be measured", failures.len());
    Ok(())
}

impl Args {
    fn made_quick(self) -> Self {
        if !self.quick {
            return self;
        }
        Self { runs: 1, seconds: 1, idle_seconds: 10, watchers: vec![100], pods: vec![10_000], ..self }
    }

    fn program(&self) -> Result<&Path> {
        let program = self.ironclad.as_deref().context("no program: set IRONCLAD or give --ironclad")?;
        ensure!(program.is_file(), "{} is not there", program.display());
        Ok(program)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.seconds.clamp(1, 60))
    }
}

fn binary(program: &Path) -> Result<()> {
    let mut table = Table::new("binary", &["size", "budget"]);
    table.row("the one file", &[report::megabytes(program.metadata()?.len()), "40.0 MB".to_owned()]);
    table.print();
    Ok(())
}

async fn api(args: &Args) -> Result<()> {
    if let Some(Peer::Upstream) = args.against {
        let watchers = args.watchers.clone();
        let extent = compare::Extent { runs: args.runs.clamp(1, 100), limit: args.limit(), watchers };
        return compare::run(args.program()?, &extent).await;
    }
    if let Some(kubeconfig) = &args.kubeconfig {
        return load_on(kubeconfig, &args.pid, args).await;
    }
    let server = server::measure_start(args.program()?).await?;
    load_on(&server.kubeconfig(), &[server.pid()], args).await
}

async fn load_on(kubeconfig: &Path, pids: &[u32], args: &Args) -> Result<()> {
    let target = connection::Target::load(kubeconfig)?;
    requests::measure(&target, pids, args.limit()).await?.print();
    let mut rows = Vec::new();
    for &count in &args.watchers {
        for format in [connection::Format::Json, connection::Format::Protobuf] {
            rows.push(watchers::measure(&target, pids, format, count).await?);
        }
    }
    watchers::print(&rows);
    requests::remove_namespace(&target).await
}

async fn scale(args: &Args) -> Result<()> {
    let program = args.program()?;
    let mut pods = args.pods.clone();
    pods.sort_unstable();
    pods.retain(|pods| *pods > 0);
    pods.dedup();
    ensure!(!pods.is_empty(), "--pods says of no pod");
    let steps = scale::Steps(pods);
    let measure = async |is_ours| scale::sample(subject::Subject::start(program, is_ours).await?, &steps).await;
    if let Some(Peer::Upstream) = args.against {
        return compare::alternate("many pods", args.runs.clamp(1, 100), measure).await;
    }
    compare::print_alone("many pods (budget: 6 KB a pod, memory returned after lists)", measure(true).await?);
    Ok(())
}

async fn cluster(args: &Args) -> Result<()> {
    let cluster = cluster::measure_up(args.program()?)?;
    let measured = on_cluster(&cluster, args).await;
    let down = cluster.down();
    measured?;
    down
}

async fn on_cluster(cluster: &cluster::Cluster, args: &Args) -> Result<()> {
    cluster.measure_rest(Duration::from_secs(args.idle_seconds.clamp(1, 600)))?;
    pods::measure(cluster).await?;
    cluster.measure_again()
}

async fn store(args: &Args) -> Result<()> {
    println!("\n## store: 1 KB values, every put waits for the disk");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["bench", "--quiet", "--package", "store", "--bench", "store"]).status()?;
    ensure!(status.success(), "cargo bench -p store: {status}");
    let Some(Peer::Upstream) = args.against else { return Ok(()) };
    let program = args.program()?;
    let measure = async |is_ours| puts::sample(program, is_ours, args.limit()).await;
    compare::alternate("puts through etcd's protocol", args.runs.clamp(1, 100), measure).await
}
