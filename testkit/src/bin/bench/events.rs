//! Where one event of a watch ends and the next begins, without decoding it.

use crate::connection::Format;

/// What is kept of an event: its object's name lies within.
const HEAD_BYTES: usize = 1024;
/// Before every event in protobuf: its length, big-endian.
const PREFIX_BYTES: usize = 4;

/// Cuts a stream into events.
pub(crate) struct Events {
    format: Format,
    /// Of the event that is under way; empty when heads are not wanted.
    head: Vec<u8>,
    keeps_heads: bool,
    prefix: Vec<u8>,
    /// Bytes of the event that are still to come, in protobuf.
    missing: usize,
}

impl Events {
    pub(crate) fn new(format: Format, keeps_heads: bool) -> Self {
        Self { format, head: Vec::new(), keeps_heads, prefix: Vec::new(), missing: 0 }
    }

    /// Takes the next bytes, and hands on the head of every event that they end; how many those were.
    pub(crate) fn push(&mut self, bytes: &[u8], see: impl FnMut(&[u8])) -> usize {
        match self.format {
            Format::Json => self.lines(bytes, see),
            Format::Protobuf => self.lengths(bytes, see),
        }
    }

    fn lines(&mut self, bytes: &[u8], mut see: impl FnMut(&[u8])) -> usize {
        if !self.keeps_heads {
            return bytes.iter().filter(|byte| **byte == b'\n').count();
        }
        let mut ended = 0;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.keep(part);
            if part.ends_with(b"\n") {
                ended += 1;
                see(&self.head);
                self.head.clear();
            }
        }
        ended
    }

    fn lengths(&mut self, mut bytes: &[u8], mut see: impl FnMut(&[u8])) -> usize {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.missing == 0 {
                let (part, rest) = bytes.split_at(bytes.len().min(PREFIX_BYTES - self.prefix.len()));
                self.prefix.extend_from_slice(part);
                bytes = rest;
                if self.prefix.len() == PREFIX_BYTES {
                    self.missing = self.prefix.drain(..).fold(0, |sum, byte| sum << 8 | usize::from(byte));
                }
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.missing));
            self.keep(part);
            self.missing -= part.len();
            bytes = rest;
            if self.missing == 0 {
                ended += 1;
                see(&self.head);
                self.head.clear();
            }
        }
        ended
    }

    fn keep(&mut self, part: &[u8]) {
        if self.keeps_heads {
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(part.len());
            self.head.extend_from_slice(&part[..room]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_where_they_end_however_they_are_cut() {
        let json = (Format::Json, b"{\"a\"}\n{\"bc\"}\n".to_vec());
        let protobuf = (Format::Protobuf, b"\x00\x00\x00\x02ab\x00\x00\x00\x03cde".to_vec());
        let lines: &[&[u8]] = &[b"{\"a\"}\n", b"{\"bc\"}\n"];
        for ((format, stream), want) in [(json, lines), (protobuf, &[b"ab", b"cde"])] {
            for size in 1..=stream.len() {
                let (mut whole, mut bare) = (Events::new(format, true), Events::new(format, false));
                let mut heads = Vec::new();
                let parts = stream.chunks(size);
                let with_heads: usize = parts.clone().map(|p| whole.push(p, |h| heads.push(h.to_vec()))).sum();
                let counted: usize = parts.map(|part| bare.push(part, |_| {})).sum();
                assert_eq!((with_heads, counted), (2, 2), "{format:?} in parts of {size}");
                assert_eq!(heads, want);
            }
        }
    }
}
