//! The one task of a server that changes the allocated ports: it knows what it wrote last, and asks the store again when
//! another server has been there, or before it says no.

use std::ops::RangeInclusive;

use api::Status;
use daemon::Tasks;
use store::{Error, UPDATE_ATTEMPTS_MAX};
use tokio::sync::{mpsc, oneshot};

use super::bitmap::Ports;
use super::record::{self, Place, Record};
use super::{Held, Refusal, Refused};

/// How many requests wait at most, and how many are answered by one write.
pub(super) const REQUESTS_MAX: usize = 1024;
const BATCH_MAX: usize = 256;

pub(super) enum Request {
    /// 0 is any.
    Take {
        wanted: Vec<i64>,
        answer: oneshot::Sender<Result<Held, Refusal>>,
    },
    Release {
        ports: Vec<u16>,
        answer: oneshot::Sender<()>,
    },
}

/// What a request takes.
type Outcome = Result<Vec<u16>, Refusal>;

/// See the module's documentation.
pub(super) struct Allocator {
    place: Place,
    range: RangeInclusive<u16>,
    /// As it was last seen.
    known: Option<Record>,
    requests: mpsc::WeakSender<Request>,
    tasks: Tasks,
}

impl Allocator {
    pub(super) fn new(
        place: Place,
        range: RangeInclusive<u16>,
        requests: mpsc::WeakSender<Request>,
        tasks: Tasks,
    ) -> Self {
        Self { place, range, known: None, requests, tasks }
    }

    /// Answers until nobody is left to ask.
    pub(super) async fn run(mut self, mut received: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while received.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let outcomes = self.settle(&batch).await;
            if let Err(why) = &outcomes {
                tracing::warn!(error = %why, requests = batch.len(), "cannot change the allocated node ports");
            }
            let mut outcomes = outcomes.map(Vec::into_iter);
            for request in batch.drain(..) {
                let outcome = match &mut outcomes {
                    Ok(outcomes) => outcomes.next().expect("every request has an outcome"),
                    Err(why) => Err(Refusal { at: 0, why: why.clone() }),
                };
                self.answer(request, outcome);
            }
        }
    }

    /// Who is not there any more for the answer gives back what it holds.
    fn answer(&self, request: Request, outcome: Outcome) {
        match request {
            Request::Take { answer, .. } => {
                let (requests, tasks) = (self.requests.clone(), self.tasks.clone());
                let _ = answer.send(outcome.map(|ports| Held { ports, requests, tasks }));
            }
            Request::Release { answer, .. } => {
                let _ = answer.send(());
            }
        }
    }

    /// Does what all requests want in one write.
    async fn settle(&mut self, batch: &[Request]) -> Result<Vec<Outcome>, Refused> {
        // What was known before proves nothing against a request.
        let mut fresh = false;
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let record = match self.known.take() {
                Some(known) => known,
                None => {
                    fresh = true;
                    self.place.read().await?.ok_or(Refused::NotReady)?
                }
            };
            if *record.ports.range() != self.range {
                return Err(Refused::Mismatched);
            }
            let mut ports = record.ports.clone();
            let outcomes: Vec<Outcome> = batch.iter().map(|request| request.apply(&mut ports)).collect();
            if !fresh && outcomes.iter().any(Result::is_err) {
                continue;
            }
            if ports == record.ports {
                self.known = Some(record);
                return Ok(outcomes);
            }
            match self.place.write(&ports, Some(record.revision)).await {
                Ok(revision) => {
                    self.known = Some(Record { ports, revision });
                    return Ok(outcomes);
                }
                Err(Error::Conflict { current, .. }) => {
                    fresh = true;
                    self.known = current.and_then(|entry| record::decoded(&entry).ok());
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(record::failed(&error).into()),
            }
        }
        Err(Status::internal("the allocated node ports change too often").into())
    }
}

impl Request {
    fn apply(&self, ports: &mut Ports) -> Outcome {
        match self {
            Self::Take { wanted, .. } => take(ports, wanted),
            Self::Release { ports: released, .. } => {
                released.iter().for_each(|port| ports.release(*port));
                Ok(Vec::new())
            }
        }
    }
}

/// Takes all or none. Those that are asked for come first, so that none of them is taken as any.
fn take(ports: &mut Ports, wanted: &[i64]) -> Outcome {
    let mut taken = Vec::with_capacity(wanted.len());
    let mut given = vec![0; wanted.len()];
    for asked in [true, false] {
        for (at, port) in wanted.iter().copied().enumerate().filter(|(_, port)| (*port != 0) == asked) {
            match take_one(ports, port) {
                Ok(port) => {
                    taken.push(port);
                    given[at] = port;
                }
                Err(why) => {
                    taken.iter().for_each(|port| ports.release(*port));
                    return Err(Refusal { at, why });
                }
            }
        }
    }
    Ok(given)
}

fn take_one(ports: &mut Ports, port: i64) -> Result<u16, Refused> {
    if port == 0 {
        return ports.take_any().ok_or(Refused::Full);
    }
    let in_range = u16::try_from(port).ok().filter(|port| ports.range().contains(port));
    let port = in_range.ok_or_else(|| Refused::NotInRange(ports.range().clone()))?;
    if ports.take(port) { Ok(port) } else { Err(Refused::Allocated) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_all_or_nothing() {
        let mut ports = Ports::new(30_000..=30_003);
        ports.take(30_001);
        let before = ports.clone();
        for (wanted, at, why) in [
            (vec![30_000, 30_001], 1, "provided port is already allocated"),
            (vec![0, 30_002, 30_002], 2, "provided port is already allocated"),
            (vec![0, 80], 1, "provided port is not in the valid range. The range of valid ports is 30000-30003"),
            (
                vec![30_000, 100_000],
                1,
                "provided port is not in the valid range. The range of valid ports is 30000-30003",
            ),
            (vec![0, 0, 0, 0], 3, "range is full"),
        ] {
            let refusal = take(&mut ports, &wanted).unwrap_err();
            assert_eq!((refusal.at, refusal.why.to_string().as_str()), (at, why), "{wanted:?}");
            assert_eq!(ports, before, "{wanted:?}");
        }
        for _ in 0..32 {
            let mut ports = before.clone();
            let given = take(&mut ports, &[0, 30_000, 30_002]).unwrap();
            assert_eq!(given, [30_003, 30_000, 30_002], "any is none that is asked for");
        }
    }
}
