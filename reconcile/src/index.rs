//! A secondary index over an informer.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use kube::Resource;
use parking_lot::RwLock;

use crate::{Change, Informer, Key};

type Entries<I, K> = HashMap<I, BTreeMap<Key, Arc<K>>>;

/// Finds objects by a value computed from them, such as their owner's uid or their node's name. Clones share it.
///
/// It is a handler of its informer: handlers registered later see it up to date with the change they are told.
pub struct Index<I, K> {
    entries: Arc<RwLock<Entries<I, K>>>,
}

impl<I, K> Clone for Index<I, K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<I, K> Index<I, K>
where
    I: Eq + Hash + Send + Sync + 'static,
    K: Resource + Send + Sync + 'static,
{
    /// Indexes by all values that `values` computes of an object. It must be pure.
    pub fn new(informer: &Informer<K>, values: impl Fn(&K) -> Vec<I> + Send + Sync + 'static) -> Self {
        let entries = Arc::new(RwLock::new(Entries::<I, K>::new()));
        let fed = entries.clone();
        informer.handle(move |change| {
            let mut entries = fed.write();
            match change {
                Change::Added(new) => insert(&mut entries, values(new), new),
                Change::Updated { old, new } => {
                    remove(&mut entries, values(old), old);
                    insert(&mut entries, values(new), new);
                }
                Change::Deleted(old) => remove(&mut entries, values(old), old),
            }
        });
        Self { entries }
    }

    /// The objects with this value, ordered by namespace and name.
    pub fn get<Q>(&self, value: &Q) -> Vec<Arc<K>>
    where
        I: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.read().get(value).map(|found| found.values().cloned().collect()).unwrap_or_default()
    }

    /// How many objects have this value.
    pub fn count<Q>(&self, value: &Q) -> usize
    where
        I: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.read().get(value).map_or(0, BTreeMap::len)
    }
}

fn insert<I: Eq + Hash, K: Resource>(entries: &mut Entries<I, K>, values: Vec<I>, object: &Arc<K>) {
    for value in values {
        entries.entry(value).or_default().insert(Key::of(&**object), object.clone());
    }
}

fn remove<I: Eq + Hash, K: Resource>(entries: &mut Entries<I, K>, values: Vec<I>, object: &Arc<K>) {
    let key = Key::of(&**object);
    for value in values {
        if let Some(found) = entries.get_mut(&value) {
            found.remove(&key);
            if found.is_empty() {
                entries.remove(&value);
            }
        }
    }
}
