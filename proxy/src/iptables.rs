//! The programs that change the kernel's tables.

use std::process::{Output, Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    Error,
    rules::{CANARY, JUMPS, Jump, Table},
};

const PACKAGE: &str = "iptables";
/// Seconds to wait for another program that holds the tables' lock.
const WAIT: &str = "5";

/// Puts a transaction into the tables.
pub(crate) async fn restore(text: &str) -> Result<(), Error> {
    const PROGRAM: &str = "iptables-restore";
    let failed = |source| Error::Start { program: PROGRAM, package: PACKAGE, source };
    let mut command = Command::new(PROGRAM);
    command.args(["--noflush", "--wait", WAIT]).kill_on_drop(true);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("stdin is piped above");
    // A refusal closes the pipe early; its reason is what the program says.
    let written = stdin.write_all(text.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return written.map_err(failed);
    }
    Err(Error::Refused { program: PROGRAM, message: said(&output) })
}

/// Puts the jumps in front of the built-in chains, where they are missing.
pub(crate) async fn ensure_jumps() -> Result<(), Error> {
    // Each is put in front, so the last one comes first.
    for jump in JUMPS.iter().rev() {
        if !run(jump.table, &["-C", jump.from], &rule(jump)).await?.status.success() {
            let output = run(jump.table, &["-I", jump.from], &rule(jump)).await?;
            accepted(&output)?;
        }
    }
    Ok(())
}

/// Nobody has emptied the tables since the last full write.
pub(crate) async fn is_intact() -> Result<bool, Error> {
    for table in Table::ALL {
        if !run(table, &["-n", "-L", CANARY], &[]).await?.status.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The chains of Services that the `nat` table holds.
pub(crate) async fn present_chains() -> Result<Vec<String>, Error> {
    const OURS: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
    let output = run(Table::Nat, &["-S"], &[]).await?;
    accepted(&output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_prefix("-N "));
    Ok(names.filter(|name| OURS.iter().any(|prefix| name.starts_with(prefix))).map(str::to_owned).collect())
}

fn rule(jump: &Jump) -> Vec<&str> {
    let mut rule = Vec::new();
    if jump.new_only {
        rule.extend(["-m", "conntrack", "--ctstate", "NEW"]);
    }
    if !jump.comment.is_empty() {
        rule.extend(["-m", "comment", "--comment", jump.comment]);
    }
    rule.extend(["-j", jump.to]);
    rule
}

async fn run(table: Table, what: &[&str], rule: &[&str]) -> Result<Output, Error> {
    const PROGRAM: &str = "iptables";
    let mut command = Command::new(PROGRAM);
    command.args(["--wait", WAIT, "-t", table.name()]).args(what).args(rule).kill_on_drop(true);
    command.output().await.map_err(|source| Error::Start { program: PROGRAM, package: PACKAGE, source })
}

fn accepted(output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused { program: "iptables", message: said(output) })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[cfg(test)]
pub(crate) mod tests;
