//! Where a certificate is on its way. Pure.
//!
//! ```text
//!             .--(request lost)--.
//!             v                  |
//!   start: Initial --> Waiting --+--> Fresh <--> Refreshing
//!                         '--> Refused <--------------'
//! ```

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

use crate::trust::{blocks, certificate_pem};

/// A request that does not show for so long was deleted.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// So long after its refresh was due, a certificate is overdue.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// A key and its certificates, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub private_key: Arc<str>,
    pub chain: Arc<str>,
}

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    private_key: Arc<str>,
    name: String,
    lost_at: Timestamp,
}

impl Asked {
    pub(super) fn new(private_key: String, name: String, at: Timestamp, jitter: SignedDuration) -> Self {
        Self { private_key: private_key.into(), name, lost_at: later(at, LOST_AFTER + jitter) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issued {
    bundle: Bundle,
    refresh_at: Timestamp,
    not_after: Timestamp,
    told_overdue: bool,
    told_expired: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Initial,
    Waiting(Asked),
    Fresh(Issued),
    Refreshing(Issued, Asked),
    /// For good.
    Refused(String),
}

/// Something to tell about the pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub reason: String,
    pub message: String,
}

#[derive(Debug)]
pub(super) struct Step {
    pub next: State,
    pub events: Vec<Event>,
    /// A request has to be made, and told with [`State::asked`].
    pub asks: bool,
}

/// What a request has come to.
enum Outcome {
    Pending,
    Issued { chain: String, refresh_at: Timestamp, not_after: Timestamp },
    Refused { message: String, event: Event },
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl State {
    /// The request whose fate decides what is next.
    pub(super) fn request_name(&self) -> Option<&str> {
        match self {
            Self::Waiting(asked) | Self::Refreshing(_, asked) => Some(&asked.name),
            _ => None,
        }
    }

    pub(super) fn bundle(&self) -> Result<Bundle, String> {
        match self {
            Self::Initial | Self::Waiting(_) => Err("credential bundle is not issued yet".into()),
            Self::Fresh(issued) | Self::Refreshing(issued, _) => Ok(issued.bundle.clone()),
            Self::Refused(message) => Err(message.clone()),
        }
    }

    /// A request was made.
    pub(super) fn asked(self, asked: Asked) -> Self {
        match self {
            Self::Fresh(issued) | Self::Refreshing(issued, _) => Self::Refreshing(issued, asked),
            _ => Self::Waiting(asked),
        }
    }

    /// One look at the request, if it is there, and the clock.
    pub(super) fn advance(
        self,
        request: Option<&PodCertificateRequest>,
        now: Timestamp,
        jitter: SignedDuration,
    ) -> Step {
        let step = |next, events| Step { next, events, asks: false };
        match self {
            Self::Initial => Step { next: Self::Initial, events: Vec::new(), asks: true },
            Self::Refused(_) => step(self, Vec::new()),
            Self::Fresh(issued) if now < issued.refresh_at => step(Self::Fresh(issued), Vec::new()),
            Self::Fresh(mut issued) => {
                let events = issued.complaints(now);
                Step { next: Self::Fresh(issued), events, asks: true }
            }
            Self::Waiting(asked) => match request.map(|request| outcome(request, jitter)) {
                None if now > asked.lost_at => Step { next: Self::Initial, events: Vec::new(), asks: true },
                Some(outcome @ (Outcome::Issued { .. } | Outcome::Refused { .. })) => settled(outcome, asked),
                _ => step(Self::Waiting(asked), Vec::new()),
            },
            Self::Refreshing(mut issued, asked) => match request.map(|request| outcome(request, jitter)) {
                None if now > asked.lost_at => Step { next: Self::Fresh(issued), events: Vec::new(), asks: true },
                Some(outcome @ (Outcome::Issued { .. } | Outcome::Refused { .. })) => settled(outcome, asked),
                _ => {
                    let events = issued.complaints(now);
                    step(Self::Refreshing(issued, asked), events)
                }
            },
        }
    }
}

fn settled(outcome: Outcome, asked: Asked) -> Step {
    let (next, events) = match outcome {
        Outcome::Issued { chain, refresh_at, not_after } => {
            let bundle = Bundle { private_key: asked.private_key, chain: chain.into() };
            let issued = Issued { bundle, refresh_at, not_after, told_overdue: false, told_expired: false };
            (State::Fresh(issued), Vec::new())
        }
        Outcome::Refused { message, event } => (State::Refused(message), vec![event]),
        Outcome::Pending => (State::Waiting(asked), Vec::new()),
    };
    Step { next, events, asks: false }
}

impl Issued {
    /// What has gone on for too long, each once.
    fn complaints(&mut self, now: Timestamp) -> Vec<Event> {
        let is_overdue = now > later(self.refresh_at, OVERDUE_AFTER);
        let is_expired = now > self.not_after;
        let overdue = is_overdue && !self.told_overdue;
        let expired = is_expired && !self.told_expired;
        self.told_overdue |= is_overdue;
        self.told_expired |= is_expired;
        let event = |reason: &str, message: &str| Event { reason: reason.into(), message: message.into() };
        let overdue = overdue.then(|| event("CertificateOverdueForRefresh", "PodCertificate refresh overdue"));
        let expired = expired.then(|| event("CertificateExpired", "PodCertificate expired"));
        overdue.into_iter().chain(expired).collect()
    }
}

fn outcome(request: &PodCertificateRequest, jitter: SignedDuration) -> Outcome {
    let Some(status) = &request.status else { return Outcome::Pending };
    for condition in status.conditions.iter().flatten() {
        let verb = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "failed",
            "Issued" => {
                let (Some(refresh_at), Some(not_after)) = (&status.begin_refresh_at, &status.not_after) else {
                    continue;
                };
                let chain = blocks(status.certificate_chain.as_deref().unwrap_or_default());
                let chain = chain.into_iter().map(certificate_pem).collect();
                return Outcome::Issued { chain, refresh_at: later(refresh_at.0, jitter), not_after: not_after.0 };
            }
            _ => continue,
        };
        let (reason, said) = (&condition.reason, &condition.message);
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let full = format!("{}/{}", name(&request.metadata.namespace), name(&request.metadata.name));
        let was = if verb == "denied" { "was denied" } else { "failed" };
        let message = format!("PodCertificateRequest {full} {was}, reason={reason:?}, message={said:?}");
        return Outcome::Refused {
            message: format!("PodCertificateRequest was permanently {verb}: reason={reason:?} message={said:?}"),
            event: Event { reason: condition.type_.clone(), message },
        };
    }
    Outcome::Pending
}

#[cfg(test)]
mod tests;
