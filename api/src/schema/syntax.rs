//! JSON syntax as Go's scanner sees it: run only when decoding failed, to find Go's words for the failure.

use std::borrow::Cow;

/// Nesting that Go's scanner refuses.
const MAX_DEPTH: usize = 10_000;

/// Checks that the text is one JSON value; the error is Go's text.
pub fn check_syntax(text: &[u8]) -> Result<(), String> {
    Scanner { text, at: 0, open: Vec::new() }.run()
}

#[derive(Clone, Copy, PartialEq)]
enum Open {
    Object,
    Array,
}

#[derive(Clone, Copy)]
enum State {
    Value,
    FirstItem,
    FirstKey,
    Key,
    AfterValue,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<Open>,
}

impl Scanner<'_> {
    fn run(mut self) -> Result<(), String> {
        let mut state = State::Value;
        loop {
            self.skip_space();
            if self.at == self.text.len() {
                let complete = self.open.is_empty() && matches!(state, State::AfterValue);
                return if complete { Ok(()) } else { Err(end()) };
            }
            state = match state {
                State::Value => self.value()?,
                State::FirstItem if self.peek() == Some(b']') => self.close(),
                State::FirstItem => self.value()?,
                State::FirstKey if self.peek() == Some(b'}') => self.close(),
                State::FirstKey | State::Key => self.key()?,
                State::AfterValue => self.after_value()?,
            };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn invalid(&self, context: &str) -> String {
        match self.peek() {
            Some(byte) => format!("invalid character {} {context}", quote(byte)),
            None => end(),
        }
    }

    fn close(&mut self) -> State {
        self.at += 1;
        self.open.pop();
        State::AfterValue
    }

    fn enter(&mut self, what: Open) -> Result<State, String> {
        self.open.push(what);
        if self.open.len() > MAX_DEPTH {
            return Err(self.invalid("exceeded max depth"));
        }
        self.at += 1;
        Ok(if what == Open::Object { State::FirstKey } else { State::FirstItem })
    }

    fn value(&mut self) -> Result<State, String> {
        match self.peek() {
            Some(b'{') => return self.enter(Open::Object),
            Some(b'[') => return self.enter(Open::Array),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err(self.invalid("looking for beginning of value")),
        }
        Ok(State::AfterValue)
    }

    fn key(&mut self) -> Result<State, String> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.invalid("after object key"));
        }
        self.at += 1;
        Ok(State::Value)
    }

    fn after_value(&mut self) -> Result<State, String> {
        let byte = self.peek();
        match (self.open.last(), byte) {
            (None, _) => Err(self.invalid("after top-level value")),
            (Some(Open::Object), Some(b',')) => {
                self.at += 1;
                Ok(State::Key)
            }
            (Some(Open::Array), Some(b',')) => {
                self.at += 1;
                Ok(State::Value)
            }
            (Some(Open::Object), Some(b'}')) | (Some(Open::Array), Some(b']')) => Ok(self.close()),
            (Some(Open::Object), _) => Err(self.invalid("after object key:value pair")),
            (Some(Open::Array), _) => Err(self.invalid("after array element")),
        }
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        self.at += 1;
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.invalid("in \\u hexadecimal character escape"));
                    }
                }
                self.at += 1;
                Ok(())
            }
            _ => Err(self.invalid("in string escape code")),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.invalid(context));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(self.invalid(&context));
            }
            self.at += 1;
        }
        Ok(())
    }
}

fn end() -> String {
    "unexpected end of JSON input".to_owned()
}

/// A byte as Go quotes a character.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x00..=0x1f | 0x7f..=0x9f => format!("'\\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// Replaces bytes that are no UTF-8, and escapes that name half a character, by U+FFFD, as Go does.
pub(super) fn replace_invalid_text(text: &[u8]) -> Vec<u8> {
    let text: Cow<'_, str> = String::from_utf8_lossy(text);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], surrogate(&bytes[at..])) {
            (b'\\', Some(high)) if high < 0xdc00 && surrogate(&bytes[at + 6..]).is_some_and(|low| low >= 0xdc00) => {
                out.extend_from_slice(&bytes[at..at + 12]);
                at += 12;
            }
            (b'\\', Some(_)) => {
                out.extend_from_slice(b"\\ufffd");
                at += 6;
            }
            (b'\\', None) => {
                let end = bytes.len().min(at + 2);
                out.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// The code of a `\uD800` to `\uDFFF` escape at the start of the text.
fn surrogate(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let code = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..0xe000).contains(&code).then_some(code)
}
