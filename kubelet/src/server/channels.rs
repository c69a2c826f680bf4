//! Kubernetes' channels inside WebSocket messages: the first byte (or digit) says which stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Subprotocols for exec and attach, the best first. The empty one is a client that asked for none.
pub(super) const EXEC: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"];
/// In the fifth version this channel closes another.
const CLOSE: u8 = 255;

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    pub base64: bool,
    /// Status as JSON; older versions send text, and nothing on success.
    pub json_status: bool,
    pub can_close: bool,
}

impl Protocol {
    pub(super) fn of(name: &str) -> Self {
        Self {
            base64: name.contains("base64"),
            json_status: name.starts_with("v4.") || name.starts_with("v5."),
            can_close: name.starts_with("v5."),
        }
    }

    /// What to send for bytes of a channel: text messages when `base64`, else binary ones.
    pub(super) fn encode(self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        if self.base64 {
            return format!("{channel}{}", STANDARD.encode(bytes)).into_bytes();
        }
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        message
    }

    pub(super) fn decode(self, message: &Bytes) -> Option<Received> {
        let first = *message.first()?;
        if self.can_close && first == CLOSE {
            return message.get(1).map(|channel| Received::Close(*channel));
        }
        if !self.base64 {
            return Some(Received::Data(first, message.slice(1..)));
        }
        let channel = first.checked_sub(b'0')?;
        STANDARD.decode(&message[1..]).ok().map(|bytes| Received::Data(channel, bytes.into()))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Data(u8, Bytes),
    Close(u8),
}

/// The first of `known` that the client asked for.
pub(super) fn choose<'a>(asked: &[String], known: &[&'a str]) -> Option<&'a str> {
    known.iter().copied().find(|name| asked.iter().any(|asked| asked == name))
}

/// A terminal's size, as clients send it.
pub(super) fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let number = |key: &str| size.get(key)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some((number("Width")?, number("Height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let v5 = Protocol::of("v5.channel.k8s.io");
        assert_eq!(v5.decode(&Bytes::from_static(&[0, b'x'])), Some(Received::Data(0, "x".into())));
        assert_eq!(v5.decode(&Bytes::from_static(&[255, 0])), Some(Received::Close(0)));
        let v4 = Protocol::of("v4.channel.k8s.io");
        assert!(matches!(v4.decode(&Bytes::from_static(&[255, 0])), Some(Received::Data(255, _))));
        let base64 = Protocol::of("v4.base64.channel.k8s.io");
        assert_eq!(base64.encode(1, b"hi"), b"1aGk=");
        assert_eq!(base64.decode(&Bytes::from_static(b"0aGk=")), Some(Received::Data(0, "hi".into())));
        assert_eq!(v5.decode(&Bytes::new()), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(size(b"x"), None);
    }
}
