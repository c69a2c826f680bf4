//! SPDY/3.1 as Kubernetes' streaming uses it: framing and header blocks; no flow control, which its peers leave out too.
//!
//! Header blocks are written as a zlib stream of stored (uncompressed) blocks: valid for every decoder and needs no
//! dictionary. What peers write is inflated with the protocol's dictionary ([`Inflater`]).

mod headers;

use tokio::io::{AsyncRead, AsyncReadExt};

pub use headers::{Headers, Inflater};

const CONTROL: u8 = 0x80;
const VERSION: u8 = 3;
const FLAG_FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// A frame's length has 24 bits; more than this is not sent by any peer.
const MAX_CONTROL_BYTES: usize = 1 << 20;
/// Stream, associated stream, priority and slot, before the headers.
const SYN_STREAM_HEAD: usize = 10;
/// Largest data frame written.
pub const MAX_DATA_BYTES: usize = 32 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The peer opens a stream; `headers` is the compressed block.
    SynStream {
        stream: u32,
        headers: Vec<u8>,
        last: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    Other,
}

/// Writes frames with headers; keeps whether the header stream has begun.
#[derive(Default)]
pub struct Encoder {
    began: bool,
}

impl Encoder {
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        payload.extend(self.block(headers));
        control(SYN_STREAM, &payload)
    }

    pub fn syn_reply(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend(self.block(headers));
        control(SYN_REPLY, &payload)
    }

    fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = u32_bytes(headers.len()).to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend(u32_bytes(text.len()));
                plain.extend(text.as_bytes());
            }
        }
        let mut block = Vec::new();
        if !self.began {
            block.extend([0x78, 0x01]);
            self.began = true;
        }
        block.extend(stored_block(&plain));
        // An empty block flushes the reader's side.
        block.extend(stored_block(&[]));
        block
    }
}

fn stored_block(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a header block of a few short names fits 64 KiB");
    let mut block = vec![0];
    block.extend(length.to_le_bytes());
    block.extend((!length).to_le_bytes());
    block.extend(bytes);
    block
}

fn u32_bytes(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![CONTROL, VERSION];
    frame.extend(kind.to_be_bytes());
    frame.push(0);
    frame.extend(&u32_bytes(payload.len())[1..]);
    frame.extend(payload);
    frame
}

/// `bytes` must not be longer than [`MAX_DATA_BYTES`].
pub fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.push(if last { FLAG_FIN } else { 0 });
    frame.extend(&u32_bytes(bytes.len())[1..]);
    frame.extend(bytes);
    frame
}

/// Says that a stream is of no use (status 3: refused).
pub fn reset(stream: u32) -> Vec<u8> {
    let mut payload = stream.to_be_bytes().to_vec();
    payload.extend(3_u32.to_be_bytes());
    control(RST_STREAM, &payload)
}

pub fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// Reads one frame; `None` at the end of the connection. Not cancel safe.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> std::io::Result<Option<Frame>> {
    let mut head = [0_u8; 8];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    let is_control = head[0] & CONTROL != 0;
    if is_control && length > MAX_CONTROL_BYTES {
        return Err(std::io::Error::other("control frame too long"));
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    if !is_control {
        let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        return Ok(Some(Frame::Data { stream, bytes: payload, last: head[4] & FLAG_FIN != 0 }));
    }
    let number = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    Ok(Some(match u16::from_be_bytes([head[2], head[3]]) {
        SYN_STREAM if payload.len() >= SYN_STREAM_HEAD => {
            let headers = payload.split_off(SYN_STREAM_HEAD);
            Frame::SynStream { stream: number, headers, last: head[4] & FLAG_FIN != 0 }
        }
        RST_STREAM => Frame::Reset { stream: number },
        PING => Frame::Ping { id: number },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn header_blocks_are_one_zlib_stream() {
        let mut encoder = Encoder::default();
        let first = encoder.syn_stream(1, &[("streamtype", "error")]);
        let second = encoder.syn_stream(3, &[("streamtype", "stdin")]);
        let mut stream = first[18..].to_vec();
        stream.extend(&second[18..]);
        let mut plain = Vec::new();
        // The stream has no end: what could be read before that is what counts.
        let _ = flate2::read::ZlibDecoder::new(stream.as_slice()).read_to_end(&mut plain);
        let text = String::from_utf8_lossy(&plain).into_owned();
        assert!(text.contains("streamtype\0\0\0\u{5}error"), "{text:?}");
        assert!(text.contains("stdin"), "{text:?}");
    }

    #[tokio::test]
    async fn frames_come_back() {
        let mut bytes = data(5, b"hello", true);
        bytes.extend(ping(7));
        let mut reader = bytes.as_slice();
        let frame = read(&mut reader).await.unwrap();
        assert_eq!(frame, Some(Frame::Data { stream: 5, bytes: b"hello".to_vec(), last: true }));
        assert_eq!(read(&mut reader).await.unwrap(), Some(Frame::Ping { id: 7 }));
        assert_eq!(read(&mut reader).await.unwrap(), None);
    }
}
