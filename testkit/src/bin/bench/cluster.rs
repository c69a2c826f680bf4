//! `ironclad up` and what its node does at rest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process,
    report::{Table, megabytes},
};

/// After `up` and before rest is measured: what starts has started.
const SETTLE: Duration = Duration::from_secs(10);

/// A cluster of one node, in a directory of its own.
pub(crate) struct Cluster {
    program: PathBuf,
    name: String,
    folder: TempDir,
}

/// Starts it for the first time.
pub(crate) fn measure_up(program: &Path) -> Result<Cluster> {
    let folder = tempfile::Builder::new().prefix("ironclad-bench-").tempdir_in("/var/tmp")?;
    let name = format!("bench{}", std::process::id());
    let cluster = Cluster { program: program.to_owned(), name, folder };
    match cluster.up("`ironclad up --nodes 1`, nothing there before", "3.00 s to Ready") {
        Ok(()) => Ok(cluster),
        Err(failure) => {
            // What has started goes, and the reason for the end is the first one.
            let _ = cluster.down();
            Err(failure)
        }
    }
}

impl Cluster {
    fn up(&self, what: &str, budget: &str) -> Result<()> {
        let kubeconfig = self.kubeconfig();
        let kubeconfig = kubeconfig.to_string_lossy();
        let mut table = Table::new(what, &["time", "budget"]);
        let started = Instant::now();
        let said = self.run(&["up", "--nodes", "1", "--uplink", "none"], &["--kubeconfig", &kubeconfig])?;
        let whole = started.elapsed().as_secs_f64();
        for (seconds, phase) in said.lines().filter_map(|line| line.trim().split_once(" s  ")) {
            table.row(phase, &[format!("{seconds} s"), String::new()]);
        }
        table.row("the whole command", &[format!("{whole:.2} s"), budget.to_owned()]);
        table.print();
        Ok(())
    }

    /// Kills the node, as a power cut would, and starts the cluster again.
    pub(crate) fn measure_again(&self) -> Result<()> {
        let init = self.init()?;
        Command::new("kill").args(["-KILL", &init.to_string()]).status()?;
        let deadline = Instant::now() + SETTLE;
        while Path::new(&format!("/proc/{init}")).exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.up("`ironclad up` again, after kill -9 of the node", "1.00 s to Ready")
    }

    /// Watches every process of the node while nothing is asked of it.
    pub(crate) fn measure_rest(&self, time: Duration) -> Result<()> {
        thread::sleep(SETTLE);
        let family = process::family(self.init()?);
        let before: BTreeMap<u32, f64> = family.iter().map(|pid| (*pid, process::seconds(&[*pid]))).collect();
        let title = format!("one node at rest for {} s", time.as_secs());
        let mut table = Table::new(&title, &["CPU", "resident", "proportional", "budget"]);
        thread::sleep(time);
        let cpu = |pids: &[u32]| {
            let used: f64 = pids.iter().map(|pid| process::seconds(&[*pid]) - before[pid]).sum();
            format!("{:.2} %", used * 100.0 / time.as_secs_f64())
        };
        let mut row = |what: &str, pids: &[u32], budget: &str| {
            let (resident, proportional) = process::memory(pids);
            table.row(what, &[cpu(pids), megabytes(resident), megabytes(proportional), budget.to_owned()]);
        };
        let living: Vec<u32> = family.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        for pid in &living {
            row(&process::command(*pid), &[*pid], "");
        }
        let (ours, others): (Vec<u32>, Vec<u32>) = living.iter().partition(|pid| is_ours(**pid));
        row("ironclad's own", &ours, "");
        row("containerd and its shims", &others, "");
        row("all", &living, "1 %, 120 MB");
        table.print();
        Ok(())
    }

    /// The node's PID 1, as this machine sees it.
    fn init(&self) -> Result<u32> {
        let status: Value = serde_json::from_str(&self.command(&["status", "--json"])?.0)?;
        let clusters = status.as_array().context("status lists clusters")?;
        let ours = clusters.iter().find(|cluster| cluster["name"] == *self.name).context("the cluster is listed")?;
        let pid = ours["nodes"][0]["pid"].as_u64().context("the node has a PID 1")?;
        Ok(u32::try_from(pid)?)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// For files of a measurement.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A subcommand that takes the cluster's name; what it said on standard error.
    pub(crate) fn run(&self, command: &[&str], rest: &[&str]) -> Result<String> {
        let args = [command, &["--name", &self.name], rest].concat();
        Ok(self.command(&args)?.1)
    }

    fn command(&self, args: &[&str]) -> Result<(String, String)> {
        let mut command = Command::new(&self.program);
        let output = command.args(args).arg("--clusters-dir").arg(self.folder.path().join("clusters")).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ironclad {} failed: {}", args.join(" "), said.trim());
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
    }

    /// Takes the cluster away.
    pub(crate) fn down(&self) -> Result<()> {
        let mut table = Table::new("`ironclad down`", &["time"]);
        let started = Instant::now();
        self.run(&["down"], &[])?;
        table.row("the whole command", &[format!("{:.2} s", started.elapsed().as_secs_f64())]);
        table.print();
        Ok(())
    }
}

/// Whether a process is the program under test, which is also what runs in the pods of its own image.
fn is_ours(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    !name.starts_with("containerd")
}
