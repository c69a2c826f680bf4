//! One step of a path into an object, its order and its text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use serde_json::Value;

/// The key fields of a list's item, by name.
pub(super) type Key<'a> = Rc<[(Cow<'a, str>, Cow<'a, Value>)]>;

/// Most steps have a shorter text.
const TEXT_BYTES: usize = 64;

/// One step of a path.
#[derive(Clone, Debug)]
pub(super) enum Element<'a> {
    /// A field of an object or an entry of a map: `f:name`.
    Field(Cow<'a, str>),
    /// An item of a list by its keys: `k:{"name":"x"}`.
    Key(Key<'a>),
    /// An item of a set: `v:"x"`.
    Value(Cow<'a, Value>),
    /// An item of a list by its place: `i:0`.
    Index(i64),
}

impl<'a> Element<'a> {
    /// Reads `f:x`, `k:{..}`, `v:..` or `i:0`. None for a step of another kind, which later releases may know.
    ///
    /// # Errors
    /// For text that is no step at all.
    pub(super) fn parse(text: Cow<'a, str>) -> Result<Option<Self>, String> {
        let bytes = text.as_bytes();
        if bytes.len() < 2 {
            return Err("key must be 2 characters long:".to_owned());
        }
        if bytes[1] != b':' {
            return Err(format!("missing colon: {text}"));
        }
        let read = |rest: &str| serde_json::from_str::<Value>(rest).map_err(|error| error.to_string());
        let element = match bytes[0] {
            b'f' => Self::Field(match text {
                Cow::Borrowed(text) => Cow::Borrowed(&text[2..]),
                Cow::Owned(mut text) => Cow::Owned(text.split_off(2)),
            }),
            b'v' => Self::Value(Cow::Owned(read(&text[2..])?)),
            b'k' => match read(&text[2..])? {
                Value::Object(fields) => {
                    Self::Key(fields.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))).collect())
                }
                other => return Err(format!("expected an object of keys, found {other}")),
            },
            b'i' => Self::Index(text[2..].parse().map_err(|_| format!("parsing {:?}: invalid syntax", &text[2..]))?),
            _ => return Ok(None),
        };
        Ok(Some(element))
    }

    /// Writes the step as a JSON string.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if let Self::Field(name) = self
            && is_plain(name)
        {
            out.extend_from_slice(b"\"f:");
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
            return;
        }
        let text = self.text();
        serde_json::to_writer(out, std::str::from_utf8(&text).expect("names and JSON are text"))
            .expect("strings always encode");
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        match self {
            Self::Field(name) => {
                text.extend_from_slice(b"f:");
                text.extend_from_slice(name.as_bytes());
            }
            Self::Value(value) => {
                text.extend_from_slice(b"v:");
                Plain(value).write(&mut text);
            }
            Self::Index(index) => text.extend_from_slice(format!("i:{index}").as_bytes()),
            Self::Key(fields) => {
                text.extend_from_slice(b"k:");
                for (place, (name, value)) in fields.iter().enumerate() {
                    text.push(if place > 0 { b',' } else { b'{' });
                    serde_json::to_writer(&mut text, &**name).expect("strings always encode");
                    text.push(b':');
                    Plain(value).write(&mut text);
                }
                text.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
            }
        }
        text
    }
}

/// True for text that is its own JSON.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}

/// A value as Go encodes it: a whole number has no fraction.
struct Plain<'a>(&'a Value);

impl Plain<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        if self.0.is_f64() {
            out.extend_from_slice(self.to_string().as_bytes());
        } else {
            serde_json::to_writer(out, self.0).expect("trees always encode");
        }
    }
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_f64().filter(|_| self.0.is_f64()) {
            Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => write!(f, "{number:.0}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// As in messages: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={}]", Plain(value)),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (place, (name, value)) in fields.iter().enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", Plain(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Ord for Element<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(one), Self::Field(two)) => one.as_bytes().cmp(two.as_bytes()),
            (Self::Key(one), Self::Key(two)) => compare_keys(one, two),
            (Self::Value(one), Self::Value(two)) => compare_values(one, two),
            (Self::Index(one), Self::Index(two)) => one.cmp(two),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Element<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl PartialOrd for Element<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element<'_> {}

fn compare_keys(one: &Key<'_>, two: &Key<'_>) -> Ordering {
    let pairs = one.iter().zip(two.iter());
    let mut differing = pairs.map(|((a, x), (b, y))| a.as_bytes().cmp(b.as_bytes()).then_with(|| compare_values(x, y)));
    let first = differing.find(|order| order.is_ne());
    first.unwrap_or_else(|| one.len().cmp(&two.len()))
}

/// Upstream's order of values: numbers, strings, booleans, lists, maps, null.
pub(super) fn compare_values(one: &Value, two: &Value) -> Ordering {
    match (one, two) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        },
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).map(|(a, b)| compare_values(a, b)).find(|order| order.is_ne());
            differing.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b.iter());
            let mut differing = pairs.map(|((a, x), (b, y))| a.cmp(b).then_with(|| compare_values(x, y)));
            differing.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => value_rank(one).cmp(&value_rank(two)),
    }
}

fn value_rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
