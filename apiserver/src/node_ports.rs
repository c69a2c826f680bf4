//! Node ports: which ones are given out is kept in the store, for all servers of it, where and as upstream has it.
//!
//! ```text
//!  write of a Service --> NodePorts -- requests --> Allocator -- compare and swap --> /registry/ranges/servicenodeports
//!                                                      Repair (what a crash left behind) ----------------^
//! ```
//! What many writes want at once goes to the store as one change, so that their number costs nothing.

mod allocator;
mod bitmap;
mod record;
mod repair;

use std::ops::RangeInclusive;
use std::sync::Arc;

use api::Status;
use daemon::Tasks;
use store::Store;
use tokio::sync::{mpsc, oneshot};

use self::allocator::{Allocator, REQUESTS_MAX, Request};
use self::bitmap::Ports;
use self::record::Place;

pub(crate) use self::repair::Repair;

/// What a dry run is told for a port that nobody asks for, as upstream guesses it.
const PRETENDED: i64 = 32_768;

/// Gives node ports out and takes them back. Clones share what is behind it.
#[derive(Clone)]
pub(crate) struct NodePorts {
    requests: mpsc::Sender<Request>,
    place: Place,
    range: RangeInclusive<u16>,
}

/// Why a port cannot be had. The texts are upstream's.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("range is full")]
    Full,
    #[error("provided port is already allocated")]
    Allocated,
    #[error("provided port is not in the valid range. The range of valid ports is {}", record::shown(.0))]
    NotInRange(RangeInclusive<u16>),
    /// The server's flag says otherwise than what is stored, until a repair.
    #[error("the provided range does not match the current range")]
    Mismatched,
    /// No server has looked yet at which are in use.
    #[error("cannot allocate resources of type servicenodeportallocations at this time")]
    NotReady,
    #[error("{}", .0.message)]
    Failed(Box<Status>),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Failed(Box::new(status))
    }
}

/// Which of the wanted ports cannot be had, and why. None of the others has been taken then.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) at: usize,
    pub(crate) why: Refused,
}

/// Ports that have been taken. They go back when this is dropped: who asked may have gone before the answer was there.
#[derive(Debug)]
pub(crate) struct Held {
    ports: Vec<u16>,
    requests: mpsc::WeakSender<Request>,
    tasks: Tasks,
}

impl Held {
    /// From here on they are the caller's.
    pub(crate) fn keep(mut self) -> Vec<u16> {
        std::mem::take(&mut self.ports)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let ports = std::mem::take(&mut self.ports);
        // Outside of a runtime there is nobody left to do it: the next server's repair will.
        let Some(requests) = self.requests.upgrade().filter(|_| tokio::runtime::Handle::try_current().is_ok()) else {
            return;
        };
        if !ports.is_empty() {
            self.tasks.spawn("node-ports-undo", async move { release(&requests, ports).await });
        }
    }
}

impl NodePorts {
    pub(crate) fn new(store: Arc<dyn Store>, range: RangeInclusive<u16>, tasks: &Tasks) -> Self {
        let place = Place::new(store);
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let allocator = Allocator::new(place.clone(), range.clone(), requests.downgrade(), tasks.clone());
        // It serves open requests to the last, and ends with them.
        tasks.spawn("node-ports", allocator.run(received));
        Self { requests, place, range }
    }

    /// Takes all of these ports, 0 being any, or none of them.
    pub(crate) async fn take(&self, wanted: Vec<i64>) -> Result<Held, Refusal> {
        let (answer, answered) = oneshot::channel();
        let gone = Refusal { at: 0, why: Refused::NotReady };
        self.requests.send(Request::Take { wanted, answer }).await.map_err(|_| gone.clone())?;
        answered.await.map_err(|_| gone)?
    }

    /// What a dry run is told. Only whether a port is in use is looked at, as upstream does.
    pub(crate) async fn pretend(&self, wanted: &[i64]) -> Result<Vec<i64>, Refusal> {
        let record = self.place.read().await.map_err(|status| Refusal { at: 0, why: status.into() })?;
        let ports = record.map_or_else(|| Ports::new(self.range.clone()), |record| record.ports);
        let mut given: Vec<i64> = Vec::with_capacity(wanted.len());
        for (at, asked) in wanted.iter().copied().enumerate() {
            let in_use = u16::try_from(asked).is_ok_and(|asked| ports.has(asked));
            if asked != 0 && (in_use || given.contains(&asked)) {
                return Err(Refusal { at, why: Refused::Allocated });
            }
            let next = given.iter().max().copied().unwrap_or(PRETENDED) + 1;
            given.push(if asked == 0 { next } else { asked });
        }
        Ok(given)
    }

    /// Those in use.
    #[cfg(test)]
    pub(crate) async fn in_use(&self) -> Vec<u16> {
        self.place.read().await.unwrap().unwrap().ports.iter().collect()
    }

    /// Gives ports back. What fails is found by the repair.
    pub(crate) async fn release(&self, ports: Vec<u16>) {
        release(&self.requests, ports).await;
    }
}

async fn release(requests: &mpsc::Sender<Request>, ports: Vec<u16>) {
    if ports.is_empty() {
        return;
    }
    let (answer, answered) = oneshot::channel();
    if requests.send(Request::Release { ports, answer }).await.is_ok() {
        let _ = answered.await;
    }
}

#[cfg(test)]
mod tests;
