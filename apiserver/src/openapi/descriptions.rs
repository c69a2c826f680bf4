//! Descriptions of types and fields, from the compressed table that `cargo xtask descriptions` writes.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

/// Texts that the table lacks: a reference is written in another form where it has one.
const OWN: [(&str, &str, &str); 1] = [(
    "apimachinery.pkg.apis.meta.v1.WatchEvent",
    "object",
    "The object as the event leaves it, or why the watch ends.",
)];

/// The unpacked table; it is kept only while documents are built.
pub(super) struct Descriptions {
    text: String,
    /// Where each type's lines start and end.
    types: HashMap<String, (usize, usize)>,
}

impl Descriptions {
    pub(super) fn read() -> Self {
        let packed: &[u8] = include_bytes!("../../data/descriptions.gz");
        let mut text = String::new();
        GzDecoder::new(packed).read_to_string(&mut text).expect("the table is written by our own task");
        let mut types = HashMap::new();
        let mut open = None::<(String, usize)>;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some(rest) = line.strip_prefix('@') {
                if let Some((id, start)) = open.take() {
                    types.insert(id, (start, at));
                }
                let id = rest.split('\t').next().unwrap_or(rest);
                open = Some((id.to_owned(), at));
            }
            at += line.len();
        }
        if let Some((id, start)) = open {
            types.insert(id, (start, at));
        }
        Self { text, types }
    }

    /// The description of a type, and those of its fields by name.
    pub(super) fn of(&self, id: &str) -> (Option<Value>, HashMap<&str, Value>) {
        let Some(&(start, end)) = self.types.get(id) else { return (None, HashMap::new()) };
        let mut own = None;
        let mut fields = HashMap::new();
        for (name, text) in self.text[start..end].lines().filter_map(|line| line.split_once('\t')) {
            let text = serde_json::from_str::<Value>(text).ok().filter(|text| text.as_str() != Some(""));
            match (name.starts_with('@'), text) {
                (true, text) => own = text,
                (false, Some(text)) => drop(fields.insert(name, text)),
                (false, None) => {}
            }
        }
        for (_, field, text) in OWN.iter().filter(|(of, ..)| *of == id) {
            fields.entry(*field).or_insert_with(|| Value::from(*text));
        }
        (own, fields)
    }
}
