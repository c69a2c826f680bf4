//! What the kernel says about processes: time used, memory held, who descends from whom.

use std::fs;

/// Clock ticks a second in `/proc`, which is the same on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// Processor time used so far, in seconds, of living processes.
pub(crate) fn seconds(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| ticks(*pid)).sum::<u64>() as f64 / TICKS_A_SECOND
}

fn ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    // Of `proc(5)`, utime and stime; the first field here is the third there.
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The fields after the name, which may contain anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Resident and proportional memory, in bytes.
pub(crate) fn memory(pids: &[u32]) -> (u64, u64) {
    let each = pids.iter().map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        (kilobytes(&text, "Rss:"), kilobytes(&text, "Pss:"))
    });
    each.fold((0, 0), |sum, (rss, pss)| (sum.0 + rss * 1024, sum.1 + pss * 1024))
}

fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A process and everything below it.
pub(crate) fn family(ancestor: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<(u32, u32)> = pids.iter().filter_map(|pid| Some((*pid, parent(*pid)?))).collect();
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    family
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The program and its first words.
pub(crate) fn command(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = text.split('\0').filter(|word| !word.is_empty());
    let program = words.next().unwrap_or("?").rsplit('/').next().unwrap_or("?").to_owned();
    let subcommand = words.next().filter(|word| !word.starts_with('-')).unwrap_or_default();
    format!("{program} {subcommand}").trim().to_owned()
}
