//! Logs, exec, cp, attach and port-forward.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use testkit::{kubectl::Kubectl, poll::until};

use crate::cluster::{Cluster, SOON, http_get};

fn pod(kubectl: &Kubectl, name: &str, command: &str) -> Result<()> {
    kubectl.apply(&format!(
        r#"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1,
            containers: [{{name: main, image: "ironclad.test/web:1", stdin: true, command: [sh, -c, {command:?}]}}]}}}}"#
    ))?;
    Ok(())
}

fn ready(kubectl: &Kubectl, name: &str) -> Result<()> {
    kubectl.run(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=90s"]).map(drop)
}

pub(crate) fn logs(cluster: &Cluster) -> Result<()> {
    let made = cluster.namespace("logs")?;
    pod(&made, "talker", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done")?;
    pod(&made, "crasher", "echo last words; exit 3")?;
    ready(&made, "talker")?;
    for kubectl in cluster.kubectls() {
        let kubectl = kubectl.within("logs");
        follow(&kubectl)?;
        let tail = kubectl.run(&["logs", "talker", "--tail=2", "--timestamps"])?;
        ensure!(tail.lines().count() == 2 && tail.contains("Z line "), "{tail}");
        until("a restart of the crasher", SOON, || kubectl.shows(&["logs", "crasher", "--previous"], "last words"))?;
        let said = kubectl.fails(&["logs", "talker", "-c", "absent"])?;
        ensure!(said.contains("container absent is not valid for pod talker"), "{said}");
    }
    Ok(())
}

fn follow(kubectl: &Kubectl) -> Result<()> {
    let mut following = kubectl.start(&["logs", "-f", "talker", "--since=1s"])?;
    let stdout = following.0.stdout.take().context("stdout is piped")?;
    let lines: Vec<String> = BufReader::new(stdout).lines().take(5).collect::<Result<_, _>>()?;
    ensure!(lines.iter().all(|l| l.starts_with("line ")), "{lines:?}");
    Ok(())
}

pub(crate) fn exec(cluster: &Cluster) -> Result<()> {
    let made = cluster.namespace("exec")?;
    pod(&made, "echo", "while read line; do echo heard $line; done")?;
    ready(&made, "echo")?;
    for kubectl in cluster.kubectls() {
        let kubectl = kubectl.within("exec");
        kubectl.shows(&["exec", "echo", "--", "cat", "/etc/hostname"], "echo")?;
        let typed = kubectl.run_with(&["exec", "-i", "echo", "--", "cat"], "through stdin")?;
        ensure!(typed == "through stdin", "{typed:?}");
        let output = kubectl.output(&["exec", "echo", "--", "sh", "-c", "echo wrong >&2; exit 7"], "")?;
        ensure!(output.status.code() == Some(7), "{output:?}");
        ensure!(String::from_utf8_lossy(&output.stderr).contains("wrong"), "{output:?}");
        terminal(&kubectl)?;
        copy(cluster, &kubectl)?;
        attach(&kubectl)?;
    }
    Ok(())
}

/// `exec -it` in a terminal of its own, which `script` makes.
fn terminal(kubectl: &Kubectl) -> Result<()> {
    let exec = kubectl.command(&["exec", "-it", "echo", "--", "sh", "-c", "tty && stty size"]);
    let words = std::iter::once(exec.get_program()).chain(exec.get_args());
    let line: Vec<String> = words.map(|w| format!("'{}'", w.to_string_lossy())).collect();
    let output = std::process::Command::new("script").args(["-qec", &line.join(" "), "/dev/null"]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && shown.contains("/dev/pts/"), "{output:?}");
    Ok(())
}

fn copy(cluster: &Cluster, kubectl: &Kubectl) -> Result<()> {
    let (there, back) = (cluster.folder().join("there"), cluster.folder().join("back"));
    let content: String = (0..10_000).map(|i| format!("{i}\n")).collect();
    fs::write(&there, &content)?;
    kubectl.run(&["cp", &there.to_string_lossy(), "echo:/tmp/copied"])?;
    kubectl.run(&["cp", "echo:/tmp/copied", &back.to_string_lossy()])?;
    ensure!(fs::read_to_string(&back)? == content, "the copy differs");
    fs::remove_file(back)?;
    Ok(())
}

fn attach(kubectl: &Kubectl) -> Result<()> {
    let mut attached = kubectl.start(&["attach", "-i", "echo"])?;
    let mut stdin = attached.0.stdin.take().context("stdin is piped")?;
    let stdout = attached.0.stdout.take().context("stdout is piped")?;
    let reader =
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).find(|l| l.contains("heard")));
    // What is typed before the stream stands is kept by the pipe.
    writeln!(stdin, "hello")?;
    stdin.flush()?;
    let heard = reader.join().ok().flatten();
    ensure!(heard.as_deref() == Some("heard hello"), "{heard:?}");
    Ok(())
}

pub(crate) fn port_forward(cluster: &Cluster) -> Result<()> {
    let made = cluster.namespace("forward")?;
    made.apply(
        r#"{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {terminationGracePeriodSeconds: 1,
            containers: [{name: web, image: "ironclad.test/web:1"}]}}"#,
    )?;
    ready(&made, "web")?;
    for kubectl in cluster.kubectls() {
        let mut forward = kubectl.within("forward").start(&["port-forward", "pod/web", ":8080"])?;
        let stdout = forward.0.stdout.take().context("stdout is piped")?;
        // Kept open: kubectl says something for each connection.
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next().context("port-forward says where it listens")??;
        let address = line.split_whitespace().nth(2).with_context(|| line.clone())?.to_owned();
        until("an answer through the forward", SOON, || {
            let answer = http_get(&address, "/")?;
            ensure!(answer == "v1 web", "{answer}");
            Ok(())
        })?;
        http_get(&address, "/").context("a second connection")?;
    }
    Ok(())
}
