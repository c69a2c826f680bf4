//! Rules that let pods' packets through, and give those that leave the pod network the node's address.
//!
//! The chains are flannel's and are replaced as a whole by one `iptables-restore`; the jumps into them are added once.

use std::process::Stdio;

use ipnet::Ipv4Net;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::Error;

/// Chain, table, built-in chain and the packets that go there.
const JUMPS: [(&str, &str, &str); 2] =
    [("nat", "POSTROUTING", "FLANNEL-POSTRTG"), ("filter", "FORWARD", "FLANNEL-FWD")];

/// Puts the rules in place. Idempotent.
pub(crate) async fn ensure(cluster: Ipv4Net, own: Ipv4Net) -> Result<(), Error> {
    restore(&rules(cluster, own)).await?;
    for (table, from, to) in JUMPS {
        let jump = ["-m", "comment", "--comment", "flanneld", "-j", to];
        if !iptables(table, &["-C", from], &jump).await? {
            iptables(table, &["-A", from], &jump).await?;
        }
    }
    Ok(())
}

/// The chains hold as many rules as they should, and are jumped to.
pub(crate) async fn is_intact(cluster: Ipv4Net, own: Ipv4Net) -> bool {
    let rules = rules(cluster, own);
    for (table, from, to) in JUMPS {
        let jump = ["-m", "comment", "--comment", "flanneld", "-j", to];
        if !iptables(table, &["-C", from], &jump).await.unwrap_or(false) {
            return false;
        }
        let wanted = rules.lines().filter(|line| line.starts_with(&format!("-A {to} "))).count();
        if count(table, to).await != Some(wanted) {
            return false;
        }
    }
    true
}

/// How many rules a chain has.
async fn count(table: &str, chain: &str) -> Option<usize> {
    let mut command = Command::new("iptables");
    command.args(["--wait", "5", "-t", table, "-S", chain]).kill_on_drop(true);
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("-A ")).count())
}

fn rules(cluster: Ipv4Net, own: Ipv4Net) -> String {
    format!(
        "*nat\n\
         :FLANNEL-POSTRTG - [0:0]\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s {own} -d {cluster} -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} -d {own} -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG ! -s {cluster} -d {own} -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully\n\
         COMMIT\n\
         *filter\n\
         :FLANNEL-FWD - [0:0]\n\
         -A FLANNEL-FWD -s {cluster} -m comment --comment \"flanneld forward\" -j ACCEPT\n\
         -A FLANNEL-FWD -d {cluster} -m comment --comment \"flanneld forward\" -j ACCEPT\n\
         COMMIT\n"
    )
}

async fn restore(rules: &str) -> Result<(), Error> {
    let failed = |what: &str| Error::Rules(format!("iptables-restore {what}"));
    let mut command = Command::new("iptables-restore");
    command.args(["--noflush", "--wait", "5"]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| failed(&format!("does not start: {e}")))?;
    let mut stdin = child.stdin.take().expect("stdin is piped above");
    stdin.write_all(rules.as_bytes()).await.map_err(|e| failed(&format!("does not read: {e}")))?;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(|e| failed(&format!("has no end: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(&format!("says: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// False when `-C` finds no such rule.
async fn iptables(table: &str, what: &[&str], rule: &[&str]) -> Result<bool, Error> {
    let mut command = Command::new("iptables");
    command.args(["--wait", "5", "-t", table]).args(what).args(rule).kill_on_drop(true);
    let output = command.output().await.map_err(|e| Error::Rules(format!("iptables does not start: {e}")))?;
    if output.status.success() || what[0] == "-C" {
        return Ok(output.status.success());
    }
    Err(Error::Rules(format!("iptables says: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::in_own_network;

    #[test]
    fn rules_that_somebody_removed_are_missed() {
        in_own_network(async || {
            let (cluster, own) = ("10.244.0.0/16".parse().expect("a range"), "10.244.1.0/24".parse().expect("a range"));
            assert!(!is_intact(cluster, own).await);
            for removal in [["-F", "POSTROUTING"], ["-F", "FLANNEL-POSTRTG"]] {
                ensure(cluster, own).await.expect("the rules are taken");
                assert!(is_intact(cluster, own).await);
                iptables("nat", &removal, &[]).await.expect("iptables runs");
                assert!(!is_intact(cluster, own).await, "{removal:?}");
            }
            iptables("filter", &["-F"], &[]).await.expect("iptables runs");
            ensure(cluster, own).await.expect("the rules are taken");
            assert!(is_intact(cluster, own).await);
        });
    }
}
