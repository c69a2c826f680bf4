//! Kill -9 of a writing process, again and again: nothing answered is lost, no revision goes back.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use store::{EmbeddedStore, Options, Store};
use tokio::task::JoinSet;

use crate::embedded::{key, options, put};

const CYCLES: usize = 10;
const WRITERS: usize = 16;
const DIRECTORY: &str = "STORE_KILL_DIRECTORY";

fn small() -> Options {
    Options { segment_bytes: 128 << 10, snapshot_after_bytes: 512 << 10, ..options() }
}

/// Not a test of its own: the process that gets killed. Prints every write once it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn writer_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = Arc::new(EmbeddedStore::open(Path::new(&dir), small()).unwrap());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0usize.. {
                let value = vec![b'v'; 100 + n * 31 % 3000];
                let revision = put(&store, writer, &value).await.unwrap();
                let line = format!("answered {writer} {revision}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    writers.join_all().await;
}

/// Runs the writer until it has answered `writes` writes, and kills it. Returns the last revision that
/// each key was answered with.
fn run_and_kill(dir: &Path, writes: usize) -> HashMap<usize, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer_process", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = HashMap::new();
    let mut seen = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        let words: Vec<_> = line.split(' ').collect();
        let ["answered", writer, revision] = words[..] else { continue };
        answered.insert(writer.parse().unwrap(), revision.parse().unwrap());
        seen += 1;
        if seen == writes {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= writes, "the writer ended by itself after {seen} writes");
    answered
}

#[tokio::test]
async fn nothing_answered_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 1;
    for cycle in 0..CYCLES {
        let answered = run_and_kill(dir.path(), 200 + cycle * 97);
        let store = EmbeddedStore::open(dir.path(), small()).unwrap();
        let revision = store.revision().await.unwrap();
        assert!(revision > last, "cycle {cycle}: revision {revision} after {last}");
        for (writer, answered) in answered {
            let entry = store.get(&key(writer)).await.unwrap().0.unwrap();
            assert!(
                entry.mod_revision >= answered,
                "cycle {cycle}: key {writer} is at {} of {answered}",
                entry.mod_revision
            );
        }
        last = revision;
    }
}
