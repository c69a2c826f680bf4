//! What operators type.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::etcd::{Cluster, Release};

/// Debian's etcdctl, pointed at a server. By host and port: of a URL some of its commands make an `:authority` that is
/// none, and that HTTP servers other than Go's refuse.
pub(crate) fn ctl(cluster: &Cluster) -> Command {
    let mut command = Command::new("etcdctl");
    let endpoint = cluster.endpoint(0).replace("http://", "");
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoint).stderr(Stdio::piped());
    command
}

/// Runs it to its end and returns what it printed.
pub(crate) fn said(cluster: &Cluster, args: &[&str]) -> String {
    let output = ctl(cluster).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "etcdctl {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(cluster: &Cluster, args: &[&str]) -> String {
    let output = ctl(cluster).args(args).output().unwrap();
    assert!(!output.status.success(), "etcdctl {args:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn json(cluster: &Cluster, args: &[&str]) -> Value {
    serde_json::from_str(&said(cluster, &[args, &["--write-out", "json"]].concat())).unwrap()
}

#[test]
fn keys_are_put_listed_and_deleted() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    for (key, value) in [("/registry/pods/b", "2"), ("/registry/pods/a", "1"), ("/registry/nodes/n", "3")] {
        assert_eq!(said(&cluster, &["put", key, value]), "OK\n");
    }
    let pods = ["get", "--prefix", "/registry/pods/"];
    assert_eq!(said(&cluster, &[&pods[..], &["--keys-only"]].concat()), "/registry/pods/a\n\n/registry/pods/b\n\n");
    assert_eq!(said(&cluster, &[&pods[..], &["--print-value-only"]].concat()), "1\n2\n");
    assert_eq!(
        said(&cluster, &["get", "", "--prefix", "--order=DESCEND", "--limit=1", "--keys-only"]),
        "/registry/pods/b\n\n"
    );
    assert_eq!(json(&cluster, &["get", "", "--prefix", "--limit=1"])["count"], 3);
    let first = json(&cluster, &["get", "/registry/pods/b"]);
    assert_eq!(first["kvs"][0]["mod_revision"], 2);
    assert_eq!(said(&cluster, &["del", "--prefix", "/registry/pods/"]), "2\n");
    assert_eq!(said(&cluster, &["get", "/registry/pods/b", "--rev=3", "--print-value-only"]), "2\n");
    assert_eq!(said(&cluster, &["get", "/registry/pods/b"]), "");
}

#[test]
fn history_is_watched_and_compacted() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    said(&cluster, &["put", "a", "1"]);
    let mut watch = ctl(&cluster);
    watch.args(["watch", "a", "--rev=2", "--prev-kv"]).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    said(&cluster, &["put", "a", "2"]);
    said(&cluster, &["del", "a"]);
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen: Vec<String> = lines.take(12).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let whole = ["PUT", "a", "1", "PUT", "a", "1", "a", "2", "DELETE", "a", "2", "a"];
    assert_eq!(seen, whole, "each with what was before");
    assert_eq!(said(&cluster, &["compact", "3"]), "compacted revision 3\n");
    assert!(fails(&cluster, &["compact", "3"]).contains("required revision has been compacted"));
    assert!(fails(&cluster, &["compact", "300"]).contains("required revision is a future revision"));
    assert!(fails(&cluster, &["get", "a", "--rev=2"]).contains("required revision has been compacted"));
    assert_eq!(said(&cluster, &["get", "a", "--rev=3", "--print-value-only"]), "2\n");
    let late = ctl(&cluster).args(["watch", "a", "--rev=2"]).output().unwrap();
    assert!(String::from_utf8_lossy(&late.stderr).contains("required revision has been compacted"), "{late:?}");
}

#[test]
fn transactions_choose_a_branch() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    let txn = |text: &str| {
        let mut child = ctl(&cluster).arg("txn").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let create = "create(\"a\") = \"0\"\n\nput a first\nput b first\n\nget a\n\n";
    assert_eq!(txn(create), "SUCCESS\n\nOK\n\nOK\n");
    assert_eq!(txn(create), "FAILURE\n\na\nfirst\n");
    let both = json(&cluster, &["get", "a", "--prefix"]);
    assert_eq!(both["kvs"][0]["mod_revision"], json(&cluster, &["get", "b"])["kvs"][0]["mod_revision"]);
    assert_eq!(txn("version(\"a\") = \"1\"\nvalue(\"b\") > \"e\"\n\ndel a\n\n\n"), "SUCCESS\n\n1\n");
}

#[test]
fn leases_end_and_take_their_keys_along() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    let granted = said(&cluster, &["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).unwrap();
    said(&cluster, &["put", "--lease", id, "held", "1"]);
    let alive = said(&cluster, &["lease", "keep-alive", "--once", id]);
    assert_eq!(alive, format!("lease {id} keepalived with TTL(300)\n"));
    let told = said(&cluster, &["lease", "timetolive", "--keys", id]);
    assert!(told.contains("granted with TTL(300s)") && told.contains("attached keys([held])"), "{told}");
    assert!(said(&cluster, &["lease", "list"]).contains(id));
    assert_eq!(said(&cluster, &["lease", "revoke", id]), format!("lease {id} revoked\n"));
    assert_eq!(said(&cluster, &["get", "held"]), "");
    assert!(fails(&cluster, &["put", "--lease", id, "held", "1"]).contains("requested lease not found"));
    let short = said(&cluster, &["lease", "grant", "2"]);
    said(&cluster, &["put", "--lease", short.split_whitespace().nth(1).unwrap(), "brief", "1"]);
    let gone = || (said(&cluster, &["get", "brief"]).is_empty()).then_some(()).ok_or(anyhow::anyhow!("it is there"));
    testkit::poll::until("a lease of two seconds ends", std::time::Duration::from_secs(20), gone).unwrap();
}

#[test]
fn the_server_tells_how_it_is() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    said(&cluster, &["put", "a", "1"]);
    let status = &json(&cluster, &["endpoint", "status"])[0]["Status"];
    assert_eq!((&status["header"]["revision"], &status["leader"]), (&2.into(), &status["header"]["member_id"]));
    assert!(status["dbSize"].as_u64().unwrap() > 0 && status["version"].as_str().unwrap().starts_with("3."));
    let health = String::from_utf8(ctl(&cluster).args(["endpoint", "health"]).output().unwrap().stderr).unwrap()
        + &said(&cluster, &["endpoint", "health"]);
    assert!(health.contains("is healthy"), "{health}");
    let members = said(&cluster, &["member", "list"]);
    assert!(members.contains(&cluster.endpoint(0)) && members.lines().count() == 1, "{members}");
    assert_eq!(said(&cluster, &["alarm", "list"]), "");
    assert!(fails(&cluster, &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"]).contains("one member"));
    assert!(fails(&cluster, &["user", "add", "x:y"]).contains("no users and roles"));
    assert_eq!(json(&cluster, &["endpoint", "hashkv"]), json(&cluster, &["endpoint", "hashkv"]));
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let mut cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    let granted = said(&cluster, &["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    said(&cluster, &["put", "--lease", &id, "a", "1"]);
    said(&cluster, &["put", "a", "2", "--ignore-lease"]);
    said(&cluster, &["compact", "2"]);
    let before = json(&cluster, &["get", "a"]);
    cluster.kill(0).unwrap();
    cluster.restart(0).unwrap();
    let after = json(&cluster, &["get", "a"]);
    assert_eq!((&before["kvs"], &before["header"]), (&after["kvs"], &after["header"]));
    assert_eq!(after["kvs"][0]["version"], 2);
    assert!(said(&cluster, &["lease", "timetolive", "--keys", &id]).contains("attached keys([a])"));
}

/// Whether a file is where a snapshot should be, and not empty.
pub(crate) fn is_written(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
