//! Documents as text: the parts of a large document are encoded one by one, so that no tree of it is ever held.

use serde_json::Value;

/// The entries of a JSON object, already encoded.
#[derive(Default)]
pub(super) struct Entries(Vec<u8>);

impl Entries {
    pub(super) fn add(&mut self, name: &str, value: &Value) {
        self.key(name);
        serde_json::to_writer(&mut self.0, value).expect("a tree of JSON values always encodes");
    }

    /// Adds an object of its own entries.
    pub(super) fn nest(&mut self, name: &str, entries: &Entries) {
        self.key(name);
        self.0.push(b'{');
        self.0.extend_from_slice(&entries.0);
        self.0.push(b'}');
    }

    fn key(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        serde_json::to_writer(&mut self.0, name).expect("text always encodes");
        self.0.push(b':');
    }

    /// The whole object.
    pub(super) fn into_object(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.0.len() + 2);
        text.push(b'{');
        text.extend_from_slice(&self.0);
        text.push(b'}');
        text
    }
}
