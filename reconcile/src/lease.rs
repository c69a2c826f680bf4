//! Leader election on a Lease (`coordination.k8s.io/v1`), compatible with client-go's.
//!
//! Each candidate judges the lease by when it last saw it change, on its own clock: the holder's clock does not matter.

mod record;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use daemon::{Drain, clock};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use tracing::{debug, info, warn};

/// After this long without renewal others may take the lease.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// After this long without a successful renewal the holder gives up, before others take over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between tries.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Share of the period added at random while waiting for the lease.
const JITTER: f64 = 1.2;

/// The lease could not be renewed in time; what it guards has been drained.
#[derive(Debug, thiserror::Error)]
#[error("leader lease {namespace}/{name} was lost")]
pub struct Lost {
    namespace: String,
    name: String,
}

/// One candidate for a lease.
#[derive(Clone)]
pub struct LeaderLease {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    leading: Arc<AtomicBool>,
}

/// The lease as last seen.
struct Observed {
    lease: Lease,
    at: Instant,
}

impl LeaderLease {
    /// A candidate. `identity` must differ between candidates, also between two on one host: see [`identity`].
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            leading: Arc::default(),
        }
    }

    /// This candidate holds the lease.
    pub fn is_leader(&self) -> bool {
        self.leading.load(Ordering::Relaxed)
    }

    /// Waits for the lease, then runs what `lead` makes while renewing it. When the lease is lost, or `drain` starts,
    /// the drain given to `lead` starts; its future is awaited and the lease released.
    ///
    /// # Errors
    /// [`Lost`] when the lease was lost. The caller may call again.
    pub async fn run<F: Future<Output = ()>>(&self, drain: &Drain, lead: impl FnOnce(Drain) -> F) -> Result<(), Lost> {
        let Some(observed) = drain.run(self.acquire()).await else { return Ok(()) };
        info!(lease = self.name, identity = self.identity, "became leader");
        self.leading.store(true, Ordering::Relaxed);
        let (trigger, leading) = drain.child();
        let renewing = async {
            let lost = leading.run(self.renew(observed)).await.is_some();
            trigger.start();
            self.leading.store(false, Ordering::Relaxed);
            lost
        };
        let working = async {
            lead(leading.clone()).await;
            trigger.start();
        };
        let (lost, ()) = futures::future::join(renewing, working).await;
        if lost {
            return Err(Lost { namespace: self.namespace.clone(), name: self.name.clone() });
        }
        if tokio::time::timeout(RENEW_DEADLINE, self.release()).await.is_err() {
            warn!(lease = self.name, "the lease could not be released in time");
        }
        Ok(())
    }

    async fn acquire(&self) -> Observed {
        let mut observed = None;
        loop {
            match self.try_acquire(&mut observed).await {
                Ok(true) => return observed.expect("an acquired lease was observed"),
                Ok(false) => {}
                Err(failure) => debug!(lease = self.name, %failure, "cannot acquire the lease yet"),
            }
            tokio::time::sleep(RETRY_PERIOD.mul_f64(1.0 + JITTER * rand::random::<f64>())).await;
        }
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> kube::Result<bool> {
        let Some(present) = self.api.get_opt(&self.name).await? else {
            let fresh = record::fresh(&self.namespace, &self.name, &self.identity, clock::now());
            let lease = self.api.create(&PostParams::default(), &fresh).await?;
            *observed = Some(Observed { lease, at: clock::monotonic() });
            return Ok(true);
        };
        if observed.as_ref().is_none_or(|old| old.lease.spec != present.spec) {
            *observed = Some(Observed { lease: present.clone(), at: clock::monotonic() });
        }
        let seen = observed.as_ref().map_or_else(clock::monotonic, |observed| observed.at);
        let age = clock::monotonic().saturating_duration_since(seen);
        if !record::is_free(&present, &self.identity, age) {
            return Ok(false);
        }
        let taken = record::taken(present, &self.identity, clock::now());
        let lease = self.api.replace(&self.name, &PostParams::default(), &taken).await?;
        *observed = Some(Observed { lease, at: clock::monotonic() });
        Ok(true)
    }

    /// Renews until that has failed for too long.
    async fn renew(&self, mut observed: Observed) {
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(clock::monotonic().saturating_duration_since(observed.at));
            match tokio::time::timeout(left.max(Duration::from_millis(1)), self.try_renew(&observed.lease)).await {
                Ok(Ok(Some(lease))) => observed = Observed { lease, at: clock::monotonic() },
                Ok(Ok(None)) => {
                    warn!(lease = self.name, "another candidate holds the lease");
                    return;
                }
                Ok(Err(failure)) => debug!(lease = self.name, %failure, "cannot renew the lease"),
                Err(_) => debug!(lease = self.name, "the lease was not renewed in time"),
            }
            if clock::monotonic().saturating_duration_since(observed.at) >= RENEW_DEADLINE {
                warn!(lease = self.name, "the lease could not be renewed");
                return;
            }
        }
    }

    async fn try_renew(&self, held: &Lease) -> kube::Result<Option<Lease>> {
        let renewed = record::renewed(held.clone(), clock::now());
        match self.api.replace(&self.name, &PostParams::default(), &renewed).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            done => return done.map(Some),
        }
        // Someone wrote the lease: perhaps only its labels, perhaps to take it.
        let present = self.api.get(&self.name).await?;
        if record::holder(&present) != Some(self.identity.as_str()) {
            return Ok(None);
        }
        let renewed = record::renewed(present, clock::now());
        self.api.replace(&self.name, &PostParams::default(), &renewed).await.map(Some)
    }

    async fn release(&self) {
        let released = async {
            let present = self.api.get(&self.name).await?;
            if record::holder(&present) != Some(self.identity.as_str()) {
                return Ok(());
            }
            let released = record::released(present, clock::now());
            self.api.replace(&self.name, &PostParams::default(), &released).await.map(drop)
        };
        match released.await {
            Ok(()) => info!(lease = self.name, "released the lease"),
            Err::<(), kube::Error>(failure) => warn!(lease = self.name, %failure, "cannot release the lease"),
        }
    }
}

/// An identity for a candidate on this host: its name and something unique.
pub fn identity(hostname: &str) -> String {
    format!("{hostname}_{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>())
}

#[cfg(test)]
mod tests;
