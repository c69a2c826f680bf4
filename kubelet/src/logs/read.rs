//! Reading a container's log: from where, how much, and following it as it grows.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
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
/// Read at a time when a log is read from its end.
const BLOCK_BYTES: u64 = 64 * 1024;
/// Enough to tell whether a line of the runtime is a piece: time, stream and tags.
const HEAD_BYTES: usize = 256;

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
    let start = options.tail_lines.map(|lines| tail_offset(&path, lines));
    let mut filter = Filter::new(options);
    let mut reader = Reader { file: File::open(&path).ok(), offset: start.unwrap_or(0) };
    for look in 0_u32.. {
        // Asked before the rest is sent: what was written before the end is sent before the end.
        let ask = look % LOOKS_PER_QUESTION == 0;
        let running = follow && (!ask || is_running().await);
        if reader.deliver(&mut filter, &sender).await.is_none() || filter.is_exhausted() || !follow {
            return;
        }
        if !running {
            // The runtime may still be writing down what the container said last.
            tokio::time::sleep(POLL).await;
            let _ = reader.deliver(&mut filter, &sender).await;
            return;
        }
        if let Some(next) = reader.successor(&path) {
            // Rotated. The runtime has opened the new file: nothing more comes to the old one.
            if reader.deliver(&mut filter, &sender).await.is_none() {
                return;
            }
            reader = Reader { file: Some(next), offset: 0 };
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = sender.closed() => return,
        }
    }
}

/// A log and how far it was read. The file stays the same when another one gets its name.
struct Reader {
    file: Option<File>,
    offset: u64,
}

impl Reader {
    /// The file that has the log's name now, when it is another one.
    fn successor(&self, path: &Path) -> Option<File> {
        let inode = |file: &File| file.metadata().ok().map(|metadata| metadata.ino());
        let now = File::open(path).ok()?;
        let is_same = self.file.as_ref().and_then(inode) == inode(&now);
        (!is_same).then_some(now)
    }

    /// Sends complete lines from the offset on; none when nobody receives.
    async fn deliver(&mut self, filter: &mut Filter, sender: &mpsc::Sender<Vec<u8>>) -> Option<()> {
        let Some(mut file) = self.file.as_ref() else { return Some(()) };
        let has_more = file.metadata().is_ok_and(|metadata| metadata.len() > self.offset);
        if !has_more || file.seek(SeekFrom::Start(self.offset)).is_err() {
            return Some(());
        }
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while !filter.is_exhausted() {
            line.clear();
            let read = std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut line).unwrap_or(0);
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            self.offset += read as u64;
            line.pop();
            let formatted = parse(&line).and_then(|parsed| filter.format(&parsed));
            if let Some(bytes) = formatted.filter(|bytes| !bytes.is_empty()) {
                sender.send(bytes).await.ok()?;
            }
        }
        Some(())
    }
}

/// Where the last `lines` lines begin. Counts the container's lines, not the runtime's pieces of them. Reads from the
/// end: between two rotations a log can get larger than this program's memory.
fn tail_offset(path: &Path, lines: usize) -> u64 {
    find_tail(path, lines).unwrap_or(0)
}

fn find_tail(path: &Path, lines: usize) -> io::Result<u64> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut pieces = Pieces { file, block: Vec::new(), block_at: length };
    let mut start = pieces.start_before(length)?;
    let mut found = 0;
    while start > 0 {
        let previous = pieces.start_before(start)?;
        if !pieces.is_partial(previous)? {
            found += 1;
            if found == lines {
                return Ok(start);
            }
        }
        start = previous;
    }
    Ok(0)
}

/// The runtime's lines, from the last to the first.
struct Pieces {
    file: File,
    block: Vec<u8>,
    block_at: u64,
}

impl Pieces {
    /// Where the piece begins that ends at `end`. Each `end` is below the one before.
    fn start_before(&mut self, end: u64) -> io::Result<u64> {
        // Its own line break does not count.
        let mut below = end.saturating_sub(1);
        loop {
            let known = usize::try_from(below.saturating_sub(self.block_at)).unwrap_or(usize::MAX);
            if let Some(at) = self.block[..known.min(self.block.len())].iter().rposition(|byte| *byte == b'\n') {
                return Ok(self.block_at + at as u64 + 1);
            }
            below = below.min(self.block_at);
            if below == 0 {
                return Ok(0);
            }
            let size = below.min(BLOCK_BYTES);
            self.block_at = below - size;
            self.block.resize(usize::try_from(size).unwrap_or_default(), 0);
            self.file.read_exact_at(&mut self.block, self.block_at)?;
        }
    }

    /// The container's line goes on after the piece at `start`.
    fn is_partial(&self, start: u64) -> io::Result<bool> {
        let mut head = [0; HEAD_BYTES];
        let read = self.file.read_at(&mut head, start)?;
        let line = head[..read].split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(parse(line).is_some_and(|line| line.partial))
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

    #[tokio::test]
    async fn nothing_is_lost_when_a_followed_log_is_rotated() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:01Z stdout F {text}\n");
        let mut old = File::create(&path).unwrap();
        old.write_all(line("a").as_bytes()).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let runs = std::sync::atomic::AtomicBool::new(true);
        let is_running = || async { runs.load(std::sync::atomic::Ordering::SeqCst) };
        let follow = send(path.clone(), Options { follow: true, ..Options::default() }, sender, is_running);
        let reader = async {
            let mut text = receiver.recv().await.unwrap();
            std::fs::rename(&path, directory.path().join("0.log.old")).unwrap();
            old.write_all(line("b").as_bytes()).unwrap();
            std::fs::write(&path, line("c")).unwrap();
            while let Some(bytes) = receiver.recv().await {
                text.extend(bytes);
                runs.store(!text.ends_with(b"c\n"), std::sync::atomic::Ordering::SeqCst);
            }
            String::from_utf8(text).unwrap()
        };
        assert_eq!(tokio::join!(follow, reader).1, "a\nb\nc\n");
    }

    #[test]
    fn the_tail_of_a_log_beyond_memory() {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(format!("\n{LOG}").as_bytes()).unwrap();
        let at = |text: &str| (1 << 40) + 1 + LOG.find(text).unwrap() as u64;
        assert_eq!(tail_offset(file.path(), 1), at("2026-01-01T00:00:03Z"));
        assert_eq!(tail_offset(file.path(), 2), at("2026-01-01T00:00:02Z stdout P"), "a line in two pieces");
    }
}
