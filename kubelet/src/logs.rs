//! Container logs, as CRI writes them: `<time> <stream> <P|F> <text>` a line.

pub(crate) mod read;
pub(crate) mod rotate;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use jiff::Timestamp;

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub time: &'a str,
    pub stream: &'a str,
    /// The container's line goes on in the next one.
    pub partial: bool,
    pub text: &'a [u8],
}

impl Line<'_> {
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// None for what is no log line.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    if stream != "stdout" && stream != "stderr" {
        return None;
    }
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, text })
}

/// The text of the last lines, within both limits. Empty when there is no log.
pub(crate) fn last_lines(path: &Path, lines: usize, bytes: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        // Prefixes of lines come on top of the text.
        let span = u64::try_from(bytes + lines * 64).unwrap_or(u64::MAX);
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(span)))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    };
    let content = read().unwrap_or_default();
    let parsed: Vec<Line<'_>> = content.split(|byte| *byte == b'\n').filter_map(parse).collect();
    let mut text = Vec::new();
    for line in &parsed[parsed.len().saturating_sub(lines)..] {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let cut = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text[cut..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = parse(b"2026-01-02T03:04:05.6Z stderr P some text").unwrap();
        assert_eq!((line.stream, line.partial, line.text), ("stderr", true, &b"some text"[..]));
        assert!(line.timestamp().is_some());
        assert!(!parse(b"t stdout F ").unwrap().partial);
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn the_end_of_a_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "t stdout F a\nt stdout P b\nt stdout F c\nt stderr F d\n").unwrap();
        assert_eq!(last_lines(file.path(), 3, 100), "bc\nd\n");
        assert_eq!(last_lines(file.path(), 10, 3), "\nd\n");
        assert_eq!(last_lines(Path::new("/nonexistent"), 1, 1), "");
    }
}
