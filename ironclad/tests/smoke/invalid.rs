//! Invalid requests get upstream's answers, as recorded from its server, and nothing of them is stored.
//!
//! They go through `kubectl proxy`, which passes bodies and answers on untouched. Requests as other users are left to
//! the API server's own test of the same recording.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use testkit::recorded::{Case, cases, known_differences};

use crate::cluster::Cluster;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that differ because this is a whole cluster: controllers make objects of their own, the service range is
/// another, and the pod runs.
const OF_A_BARE_SERVER: &[&str] =
    &["service account", "an address out of range", "exec without a stream", "no namespace"];

pub(crate) fn requests(cluster: &Cluster) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (cases, known) = (cases(&root)?, known_differences(&root)?);
    let mut proxy = cluster.kubectl().start(&["proxy", "--port=0", "--reject-paths=^$"])?;
    let stdout = proxy.0.stdout.take().context("stdout is piped")?;
    let line = BufReader::new(stdout).lines().next().context("kubectl proxy says where it listens")??;
    let address = line.split_whitespace().last().context("an address")?.to_owned();
    let mut wrong = Vec::new();
    // What was recorded of a pod that never got a node is not what happens to one that runs.
    let on_the_pod = |case: &&Case| case.path.contains("/pods/pod");
    let own: Vec<&Case> = cases.iter().filter(|c| c.user.is_empty() && !on_the_pod(c)).collect();
    for case in &own {
        let outcome = send(&address, case).and_then(|(code, body)| case.compare(code, &body));
        if let Err(failure) = outcome
            && !known.contains(&case.name)
            && !OF_A_BARE_SERVER.contains(&case.name.as_str())
        {
            wrong.push(format!("{}: {failure:#}", case.name));
        }
    }
    cluster.kubectl().run(&["delete", "namespace", "replay", "--wait=false"])?;
    println!("  {} requests, {} known to differ", own.len(), known.len());
    ensure!(wrong.is_empty(), "{} answers differ from upstream's:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn send(address: &str, case: &Case) -> Result<(u16, String)> {
    let body = case.body();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let header =
        |name: &str, value: &str| if value.is_empty() { String::new() } else { format!("{name}: {value}\r\n") };
    let accept = if case.accept.is_empty() { "application/json" } else { &case.accept };
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: {accept}\r\n{}{}Content-Length: {}\r\n\r\n",
        case.method,
        case.path,
        header("Content-Type", &case.content_type),
        header("Impersonate-User", &case.impersonate),
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A body that is too large is refused before it was sent as a whole.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    // A server that refuses before it has read the body may reset the connection behind its answer.
    if let Err(failure) = stream.read_to_end(&mut answer) {
        ensure!(!answer.is_empty(), failure);
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    let code = head.split(' ').nth(1).context("a status code")?.parse()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((code, if chunked { unchunked(body) } else { body.to_owned() }))
}

fn unchunked(text: &str) -> String {
    let (mut body, mut rest) = (String::new(), text);
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = tail.get(..size).filter(|_| size > 0) else { break };
        body.push_str(chunk);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    body
}
