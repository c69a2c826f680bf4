//! Header blocks of a peer: one deflate stream over the life of the connection, primed with the protocol's dictionary.

use std::collections::BTreeMap;
use std::io;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Names in lower case.
pub type Headers = BTreeMap<String, String>;

/// Deflate looks back no further.
const WINDOW_BYTES: usize = 32 * 1024;
/// A block that inflates to more is refused.
const MAX_BLOCK_BYTES: usize = 64 * 1024;
/// Set in the second byte of a zlib stream that needs a dictionary.
const NEEDS_DICTIONARY: u8 = 0x20;

/// Names that the dictionary holds with their length in front (draft-mbelshe-httpbis-spdy, section 2.6.10.1).
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// What follows them, as it is.
const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS {
        bytes.extend(u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(word.as_bytes());
    }
    bytes.extend(TAIL.as_bytes());
    bytes
}

/// Reads one connection's header blocks, in order.
#[derive(Default)]
pub struct Inflater {
    state: Box<DecompressorOxide>,
    /// What was inflated last; it starts as the dictionary.
    window: Vec<u8>,
    began: bool,
}

impl Inflater {
    /// # Errors
    /// When the block is damaged: nothing after it can be read.
    pub fn read(&mut self, block: &[u8]) -> io::Result<Headers> {
        let plain = self.inflate(block)?;
        parse(&plain).ok_or_else(|| io::Error::other("malformed header block"))
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut input = if self.began { block } else { self.begin(block)? };
        if self.window.len() > WINDOW_BYTES {
            self.window.drain(..self.window.len() - WINDOW_BYTES);
        }
        let start = self.window.len();
        self.window.resize(start + MAX_BLOCK_BYTES, 0);
        let mut at = start;
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let outcome = loop {
            let (status, read, written) = decompress(&mut self.state, input, &mut self.window, at, flags);
            input = &input[read..];
            at += written;
            match status {
                TINFLStatus::NeedsMoreInput | TINFLStatus::Done if input.is_empty() => break Ok(()),
                TINFLStatus::NeedsMoreInput if read > 0 => {}
                _ => break Err(io::Error::other("header block cannot be inflated")),
            }
        };
        self.window.truncate(at);
        outcome.map(|()| self.window[start..].to_vec())
    }

    /// The stream's own head: two bytes, and the dictionary's checksum when it uses one.
    fn begin<'a>(&mut self, block: &'a [u8]) -> io::Result<&'a [u8]> {
        let flags = *block.get(1).ok_or_else(|| io::Error::other("header block too short"))?;
        let head = if flags & NEEDS_DICTIONARY == 0 { 2 } else { 6 };
        if head == 6 {
            self.window = dictionary();
        }
        self.began = true;
        block.get(head..).ok_or_else(|| io::Error::other("header block too short"))
    }
}

fn parse(bytes: &[u8]) -> Option<Headers> {
    let mut rest = bytes;
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?;
        let value = text(&mut rest)?;
        headers.insert(name.to_lowercase(), value);
    }
    Some(headers)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = number(rest)?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::Encoder;

    #[test]
    fn the_dictionary_has_its_published_size_and_checksum() {
        let bytes = dictionary();
        assert_eq!(bytes.len(), 1423);
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in &bytes {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn stored_blocks_come_back() {
        let mut encoder = Encoder::default();
        let mut inflater = Inflater::default();
        for (name, stream) in [("error", 1), ("stdin", 3)] {
            let frame = encoder.syn_stream(stream, &[("streamType", name), ("port", "80")]);
            let headers = inflater.read(&frame[18..]).unwrap();
            assert_eq!(headers["streamtype"], name);
            assert_eq!(headers["port"], "80");
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Inflater::default().read(&[]).is_err());
        assert!(Inflater::default().read(&[0x78, 0x01, 0xff, 0xff, 0xff]).is_err());
    }
}
