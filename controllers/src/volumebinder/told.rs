//! What was said last about each claim that waits: looking at it again is no news.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use parking_lot::Mutex;
use reconcile::Key;

/// Holds no claim that does not exist, as long as the end of each is passed on with [`Told::forget`].
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<HashMap<Key, Said>>>);

#[derive(PartialEq)]
struct Said {
    uid: String,
    reason: &'static str,
    message: String,
}

impl Told {
    /// Whether this is not what was said last, and notes it.
    pub(super) fn is_news(&self, claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> bool {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let said = Said { uid, reason, message: message.to_owned() };
        let mut all = self.0.lock();
        let key = Key::of(claim);
        let is_news = all.get(&key) != Some(&said);
        all.insert(key, said);
        is_news
    }

    /// The claim waits no longer, or is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}
