//! Which servers there are: each keeps its address under a lease in the store that they share, as upstream's lease
//! reconciler does, so that servers of either make stand in the `kubernetes` service's endpoints.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Value};
use bytes::Bytes;
use serde_json::json;
use store::{Change, Entry, Error, Expect, Key, KeyPrefix, RangeRequest, Store, UpdateError, update};

/// How often an address is renewed, and how long it lasts.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);
const LASTS: Duration = Duration::from_secs(15);

/// See the module's documentation.
pub(super) struct Members {
    store: Arc<dyn Store>,
    prefix: KeyPrefix,
    key: Key,
    address: IpAddr,
}

impl Members {
    pub(super) fn new(store: Arc<dyn Store>, address: IpAddr) -> Self {
        let prefix = KeyPrefix::new(["masterleases"]).expect("a constant is a segment");
        let key = prefix.key([address.to_string().as_str()]).expect("an address is a segment");
        Self { store, prefix, key, address }
    }

    /// Renews the own address and returns all, in order.
    pub(super) async fn renew(&self) -> Result<Vec<String>, Status> {
        let next = |found: Option<Entry>| {
            let value = self.value(found.map_or(0, |found| generation(&found.value)) + 1);
            async move { Ok::<_, std::convert::Infallible>(Change::Put(value, Some(LASTS))) }
        };
        match update(&*self.store, &self.key, None, next).await {
            Ok(_) => {}
            Err(UpdateError::Refused(never)) => match never {},
            Err(UpdateError::Store(error)) => return Err(failed(&error)),
        }
        let page = self.store.range(RangeRequest::all(self.prefix.clone())).await.map_err(|error| failed(&error))?;
        Ok(page.entries.iter().filter_map(|entry| address(&entry.value)).collect())
    }

    /// Gives the own address up.
    pub(super) async fn leave(&self) {
        if let Err(error) = self.store.delete(self.key.clone(), Expect::Any).await {
            tracing::debug!(%error, "this server's address stays until its lease ends");
        }
    }

    /// Nothing is written when nothing changes, and then no lease is renewed: so that there is something to count.
    fn value(&self, generation: i64) -> Bytes {
        let value = json!({
            "kind": "Endpoints", "apiVersion": "v1", "metadata": {"generation": generation},
            "subsets": [{"addresses": [{"ip": self.address.to_string()}]}],
        });
        value.to_string().into()
    }
}

fn generation(value: &[u8]) -> i64 {
    let tree: Value = serde_json::from_slice(value).unwrap_or_default();
    tree.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

fn address(value: &[u8]) -> Option<String> {
    let tree: Value = serde_json::from_slice(value).ok()?;
    tree.pointer("/subsets/0/addresses/0/ip").and_then(Value::as_str).map(str::to_owned)
}

fn failed(error: &Error) -> Status {
    Status::internal(format!("keeping this server's address: {error}"))
}
