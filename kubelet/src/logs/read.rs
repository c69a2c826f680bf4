//! Reading a container's log: from where, how much, and following it as it grows.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Line, parse};

/// How often a followed log is looked at. The kernel's notification is not used: files are few and short-lived.
const POLL: Duration = Duration::from_millis(50);
/// The runtime is asked only every so many looks whether the container still runs.
const LOOKS_PER_QUESTION: u32 = 4;
/// Longest line of the runtime, with its prefix.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub follow: bool,
    pub tail_lines: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    /// Only this stream.
    pub stream: Option<String>,
}

/// Writes lines as the options want them, until the limit.
struct Filter {
    options: Options,
    left: Option<u64>,
    /// The container's line is not at its end.
    in_line: bool,
}

impl Filter {
    fn new(options: Options) -> Self {
        Self { left: options.limit_bytes, options, in_line: false }
    }

    fn is_exhausted(&self) -> bool {
        self.left == Some(0)
    }

    fn format(&mut self, line: &Line<'_>) -> Option<Vec<u8>> {
        if self.options.stream.as_deref().is_some_and(|stream| stream != line.stream) {
            return None;
        }
        if let (Some(since), Some(time)) = (self.options.since, line.timestamp())
            && time < since
        {
            return None;
        }
        let mut bytes = Vec::with_capacity(line.text.len() + 40);
        if self.options.timestamps && !self.in_line {
            bytes.extend_from_slice(line.time.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(line.text);
        if !line.partial {
            bytes.push(b'\n');
        }
        self.in_line = line.partial;
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        Some(bytes)
    }
}

/// Sends the log in pieces. Ends at its end, or, following, when `is_running` says no and everything was sent,
/// or when nobody receives.
pub(crate) async fn send<F, R>(path: PathBuf, options: Options, sender: mpsc::Sender<Vec<u8>>, is_running: F)
where
    F: Fn() -> R,
    R: Future<Output = bool>,
{
    let follow = options.follow;
    let start = match options.tail_lines {
        Some(lines) => tail_offset(&path, lines),
        None => 0,
    };
    let mut filter = Filter::new(options);
    let mut offset = start;
    let mut opened = inode(&path);
    for look in 0_u32.. {
        // Asked before the rest is sent: what was written before the end is sent before the end.
        let ask = look % LOOKS_PER_QUESTION == 0;
        let running = follow && (!ask || is_running().await);
        match deliver(&path, offset, &mut filter, &sender).await {
            Some(next) => offset = next,
            None => return,
        }
        if filter.is_exhausted() || !follow {
            return;
        }
        if !running {
            // The runtime may still be writing down what the container said last.
            tokio::time::sleep(POLL).await;
            let _ = deliver(&path, offset, &mut filter, &sender).await;
            return;
        }
        let current = inode(&path);
        if current.is_some() && current != opened {
            // Rotated: the rest of the old file was sent above, as far as it was written.
            opened = current;
            offset = 0;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = sender.closed() => return,
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Sends complete lines from `offset`; returns where the next begins, none when nobody receives.
async fn deliver(path: &Path, offset: u64, filter: &mut Filter, sender: &mpsc::Sender<Vec<u8>>) -> Option<u64> {
    let Ok(mut file) = std::fs::File::open(path) else { return Some(offset) };
    if file.metadata().is_ok_and(|metadata| metadata.len() <= offset) || file.seek(SeekFrom::Start(offset)).is_err() {
        return Some(offset);
    }
    let mut reader = BufReader::new(file);
    let mut at = offset;
    let mut line = Vec::new();
    while !filter.is_exhausted() {
        line.clear();
        let read = std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut line).unwrap_or(0);
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        at += read as u64;
        line.pop();
        let formatted = parse(&line).and_then(|parsed| filter.format(&parsed));
        if let Some(bytes) = formatted.filter(|bytes| !bytes.is_empty()) {
            sender.send(bytes).await.ok()?;
        }
    }
    Some(at)
}

/// Where the last `lines` complete lines begin. Counts the container's lines, not the runtime's pieces of them.
fn tail_offset(path: &Path, lines: usize) -> u64 {
    let Ok(content) = std::fs::read(path) else { return 0 };
    let mut starts = Vec::new();
    let mut at = 0;
    let mut continues = false;
    for piece in content.split_inclusive(|byte| *byte == b'\n') {
        if !continues {
            starts.push(at);
        }
        continues = parse(piece).is_some_and(|line| line.partial);
        at += piece.len() as u64;
    }
    match starts.len().checked_sub(lines) {
        Some(skip) => starts.get(skip).copied().unwrap_or(at),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F a\n2026-01-01T00:00:02Z stdout P b\n\
                       2026-01-01T00:00:02Z stdout F c\n2026-01-01T00:00:03Z stderr F d\n";

    async fn read(options: Options) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        send(file.path().to_owned(), options, sender, || async { false }).await;
        let mut text = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            text.extend(bytes);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let base = Options::default;
        let since = "2026-01-01T00:00:02Z".parse().unwrap();
        for (options, expected) in [
            (base(), "a\nbc\nd\n"),
            (Options { tail_lines: Some(2), ..base() }, "bc\nd\n"),
            (Options { tail_lines: Some(0), ..base() }, ""),
            (Options { tail_lines: Some(9), ..base() }, "a\nbc\nd\n"),
            (Options { since: Some(since), ..base() }, "bc\nd\n"),
            (Options { limit_bytes: Some(4), ..base() }, "a\nbc"),
            (Options { stream: Some("stderr".into()), ..base() }, "d\n"),
            (Options { timestamps: true, tail_lines: Some(1), ..base() }, "2026-01-01T00:00:03Z d\n"),
            (Options { follow: true, ..base() }, "a\nbc\nd\n"),
        ] {
            assert_eq!(read(options.clone()).await, expected, "{options:?}");
        }
    }
}
