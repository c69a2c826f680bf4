//! `ironclad backup` and `ironclad restore`, and `etcdctl snapshot save`, on a server that serves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use testkit::etcd::{Cluster, Release, own_program};

use crate::ctl::{is_written, said};

fn ironclad(verb: &str, file: &Path, dir: &Path) -> Output {
    Command::new(own_program().unwrap()).arg(verb).arg(file).arg("--data-dir").arg(dir).output().unwrap()
}

fn succeeds(verb: &str, file: &Path, dir: &Path) {
    let output = ironclad(verb, file, dir);
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
}

fn fails(verb: &str, file: &Path, dir: &Path, because: &str) {
    let output = ironclad(verb, file, dir);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains(because), "{verb}: {error}");
}

#[test]
fn a_server_goes_on_from_its_backup() {
    let mut cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (taken, saved) = (folder.path().join("taken"), folder.path().join("saved"));
    for value in ["1", "2"] {
        said(&cluster, &["put", "a", value]);
    }
    let before = said(&cluster, &["get", "a", "--write-out", "json"]);
    succeeds("backup", &taken, &cluster.data_dir(0));
    assert_eq!(fs::metadata(&taken).unwrap().permissions().mode() & 0o777, 0o600, "it holds every secret");
    said(&cluster, &["snapshot", "save", &saved.to_string_lossy()]);
    assert!(is_written(&saved));
    said(&cluster, &["put", "a", "later"]);

    fails("restore", &taken, &cluster.data_dir(0), "is in use by another process");
    assert_eq!(said(&cluster, &["get", "a", "--print-value-only"]), "later\n");
    for file in [&taken, &saved] {
        cluster.kill(0).unwrap();
        fs::remove_dir_all(cluster.data_dir(0)).unwrap();
        succeeds("restore", file, &cluster.data_dir(0));
        cluster.restart(0).unwrap();
        assert_eq!(said(&cluster, &["get", "a", "--write-out", "json"]), before);
        said(&cluster, &["put", "a", "other"]);
    }
}

#[test]
fn what_is_no_backup_is_refused() {
    let cluster = Cluster::start(Release::Ironclad, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (folder.path().join("file"), folder.path().join("to"));
    succeeds("backup", &file, &cluster.data_dir(0));
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    fails("restore", &file, &to, "is not a whole backup");
    fs::write(&file, "short").unwrap();
    fails("restore", &file, &to, "too short");
    fails("restore", &folder.path().join("none"), &to, "cannot open");
    assert!(!to.exists());
    fails("backup", &file, &folder.path().join("none"), "cannot list");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fails("backup", &file, &empty, "is missing");
    assert_eq!(fs::read(&file).unwrap(), b"short", "a backup that fails replaces nothing");
}
