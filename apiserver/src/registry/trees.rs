//! Trees that the server itself asks for with every write: of the namespace, the account, the priority classes.

use std::collections::HashMap;
use std::sync::Arc;

use api::Value;
use parking_lot::Mutex;
use store::Key;

use super::object::Stored;

/// So many of a collection are kept.
const TREES_MAX: usize = 256;
/// A larger object is parsed each time.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The trees of some objects of a collection, each as of a revision.
#[derive(Debug, Default)]
pub(crate) struct Trees(Mutex<HashMap<Key, (u64, Arc<Value>)>>);

impl Trees {
    /// The tree of an object.
    pub(crate) fn of(&self, key: &Key, stored: &Stored) -> Arc<Value> {
        if stored.raw.len() > TEXT_BYTES_MAX {
            return Arc::new(stored.tree());
        }
        if let Some((_, tree)) = self.0.lock().get(key).filter(|(revision, _)| *revision == stored.revision) {
            return tree.clone();
        }
        let tree = Arc::new(stored.tree());
        let mut trees = self.0.lock();
        // What is asked for is soon there again.
        if trees.len() >= TREES_MAX {
            trees.clear();
        }
        trees.insert(key.clone(), (stored.revision, tree.clone()));
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str, revision: u64) -> Stored {
        Stored::new(text.to_owned().into(), revision)
    }

    #[test]
    fn a_tree_is_parsed_once_for_each_revision() {
        let trees = Trees::default();
        let key = Key::new(["things", "a"]).unwrap();
        let one = stored(r#"{"metadata":{"name":"a"},"x":1}"#, 3);
        let first = trees.of(&key, &one);
        assert_eq!(*first, one.tree());
        assert!(Arc::ptr_eq(&first, &trees.of(&key, &one)));
        let later = trees.of(&key, &stored(r#"{"metadata":{"name":"a"},"x":2}"#, 4));
        assert_eq!((&later["x"], &later["metadata"]["resourceVersion"]), (&2.into(), &"4".into()));
        let other = Key::new(["things", "b"]).unwrap();
        assert_eq!(trees.of(&other, &stored(r#"{"metadata":{},"x":5}"#, 4))["x"], 5);
    }

    #[test]
    fn few_small_trees_are_kept() {
        let trees = Trees::default();
        for n in 0..=TREES_MAX {
            trees.of(&Key::new(["things", &n.to_string()]).unwrap(), &stored(r#"{"metadata":{}}"#, 1));
        }
        assert!(trees.0.lock().len() <= TREES_MAX);
        let large = stored(&format!(r#"{{"metadata":{{}},"x":"{}"}}"#, "x".repeat(TEXT_BYTES_MAX)), 1);
        let key = Key::new(["things", "large"]).unwrap();
        assert!(!Arc::ptr_eq(&trees.of(&key, &large), &trees.of(&key, &large)));
    }
}
