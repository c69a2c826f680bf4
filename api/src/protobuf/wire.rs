//! The wire: keys, varints and lengths. Errors have Go's words, because a client sees them.

/// Why bytes are not a message of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// A varint of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A length above what fits.
    #[error("proto: negative length found during unmarshaling")]
    Length,
    /// A group's end without its start.
    #[error("proto: unexpected end of group")]
    GroupEnd,
    /// A wire type that does not exist.
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    /// A field number that does not exist.
    #[error("proto: {owner}: illegal tag {tag} (wire type {wire})")]
    Tag { owner: &'static str, tag: i32, wire: u8 },
    /// A field in another form than its type has.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    Field { field: &'static str, wire: u8 },
    /// Messages in messages, deeper than any real object.
    #[error("proto: exceeded the depth limit of {0} messages")]
    Depth(usize),
    /// More messages than any real object has.
    #[error("proto: exceeded the limit of {0} messages")]
    Messages(usize),
    /// A value that its type refuses.
    #[error("{0}")]
    Value(String),
    /// A type without a protobuf form.
    #[error(
        "object *{0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NoForm(&'static str),
}

/// The wire types that are in use.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
pub(super) const FIXED32: u8 = 5;

/// Groups in groups, which nobody sends, are skipped down to here.
const GROUP_DEPTH_MAX: usize = 64;

/// Reads a message's bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and wire type; None at the end of the message.
    pub(super) fn key(&mut self, owner: &'static str) -> Result<Option<(u32, u8)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = (key & 7) as u8;
        #[expect(clippy::cast_possible_truncation, reason = "Go truncates the tag in the same way")]
        let tag = (key >> 3) as i32;
        match u32::try_from(tag) {
            Ok(number) if number > 0 => Ok(Some((number, wire))),
            _ => Err(DecodeError::Tag { owner, tag, wire }),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Overflow)
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(super) fn fixed32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// A length and that many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = i64::try_from(self.varint()?).map_err(|_| DecodeError::Length)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Length)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Passes over a value of an unknown field.
    pub(super) fn skip(&mut self, wire: u8) -> Result<(), DecodeError> {
        let mut depth = 0usize;
        let mut wire = wire;
        loop {
            match wire {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.fixed64()?),
                BYTES => drop(self.bytes()?),
                FIXED32 => drop(self.fixed32()?),
                GROUP_START if depth < GROUP_DEPTH_MAX => depth += 1,
                GROUP_START => return Err(DecodeError::Depth(GROUP_DEPTH_MAX)),
                GROUP_END => depth = depth.checked_sub(1).ok_or(DecodeError::GroupEnd)?,
                other => return Err(DecodeError::WireType(other)),
            }
            if depth == 0 {
                return Ok(());
            }
            wire = (self.varint()? & 7) as u8;
        }
    }
}

/// Writes a message's bytes. Fields are written in the order of the calls; none is left out for its value.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Goes on behind bytes that are there.
    pub(super) fn after(out: Vec<u8>) -> Self {
        Self { out }
    }

    /// The bytes that were written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// A field of this many bytes, which follow.
    pub(super) fn length(&mut self, number: u32, length: usize) {
        self.key(number, BYTES);
        self.raw_varint(length as u64);
    }

    fn key(&mut self, number: u32, wire: u8) {
        self.raw_varint(u64::from(number) << 3 | u64::from(wire));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// A field with a number, an enumeration's value or a boolean.
    pub fn varint(&mut self, number: u32, value: u64) {
        self.key(number, VARINT);
        self.raw_varint(value);
    }

    pub(super) fn fixed64(&mut self, number: u32, value: u64) {
        self.key(number, FIXED64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed32(&mut self, number: u32, value: u32) {
        self.key(number, FIXED32);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A field of bytes, text or an encoded message.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.length(number, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// A field whose bytes `write` writes. Its length is put in front when it is known: one byte is kept free for it,
    /// and only a longer one moves the bytes.
    ///
    /// # Errors
    /// What `write` answers.
    pub fn message<E>(&mut self, number: u32, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.key(number, BYTES);
        let start = self.out.len();
        self.out.push(0);
        write(self)?;
        let length = self.out.len() - start - 1;
        let (mut prefix, mut digits, mut rest) = ([0u8; 10], 1, length >> 7);
        prefix[0] = (length & 0x7f) as u8;
        while rest > 0 {
            prefix[digits - 1] |= 0x80;
            prefix[digits] = (rest & 0x7f) as u8;
            (digits, rest) = (digits + 1, rest >> 7);
        }
        self.out[start] = prefix[0];
        if digits > 1 {
            let end = self.out.len();
            self.out.resize(end + digits - 1, 0);
            self.out.copy_within(start + 1..end, start + digits);
            self.out[start + 1..start + digits].copy_from_slice(&prefix[1..digits]);
        }
        Ok(())
    }
}
