//! Records events (`core/v1`) about objects, as client-go's `record` package does.
//!
//! Recording never blocks and never fails: events queue up to a limit and one task per recorder writes them. Repeated
//! events become one with a count, many similar ones become one combined event, and a source that tells too much about
//! one object is silenced for a while.

mod correlate;

use std::time::Duration;

use daemon::Drain;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use self::correlate::{Correlator, Write};

/// Events that wait to be written; further ones are dropped.
const QUEUE_LIMIT: usize = 1000;
const MAX_TRIES: u32 = 12;
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Whether an event is news or a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Information only.
    Normal,
    /// Something may be wrong.
    Warning,
}

impl EventType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events of one source. Clones share its queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Event>,
    component: String,
    host: Option<String>,
}

impl Recorder {
    /// A recorder of a component, with the task that writes its events. `host` is the node's name, for components that
    /// run on one.
    pub fn new(client: Client, tasks: &daemon::Tasks, component: &str, host: Option<&str>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        let drain = tasks.drain().clone();
        let writer = Writer { client, correlator: Correlator::default(), drain };
        tasks.spawn("events", writer.run(receiver));
        Self { sender, component: component.to_owned(), host: host.map(str::to_owned) }
    }

    /// A recorder whose events are received by the caller, for tests.
    pub fn detached(component: &str) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        (Self { sender, component: component.to_owned(), host: None }, receiver)
    }

    /// Records an event about an object.
    pub fn event<K>(&self, object: &K, type_: EventType, reason: &str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_about(crate::reference(object), type_, reason, message);
    }

    /// Records an event about what a reference names, such as one container of a pod (`fieldPath`).
    pub fn event_about(&self, about: ObjectReference, type_: EventType, reason: &str, message: impl Into<String>) {
        let event = self.make(about, type_, reason, message.into(), daemon::clock::now());
        if let Err(failure) = self.sender.try_send(event) {
            warn!(reason, %failure, "event dropped");
        }
    }

    fn make(&self, about: ObjectReference, type_: EventType, reason: &str, message: String, now: Timestamp) -> Event {
        let namespace = about.namespace.clone().filter(|namespace| !namespace.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(name(about.name.as_deref().unwrap_or_default(), now)),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: about,
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource { component: Some(self.component.clone()), host: self.host.clone() }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone().unwrap_or_default()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(type_.as_str().to_owned()),
            ..Event::default()
        }
    }
}

/// The object's name and the time in hexadecimal nanoseconds; the name is cut so that both fit into 253 bytes.
fn name(object: &str, now: Timestamp) -> String {
    const MAX: usize = 253 - 17;
    let cut = object.len().min(MAX);
    let cut = (0..=cut).rev().find(|at| object.is_char_boundary(*at)).unwrap_or(0);
    format!("{}.{:x}", &object[..cut], now.as_nanosecond())
}

struct Writer {
    client: Client,
    correlator: Correlator,
    drain: Drain,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Event>) {
        while let Some(Some(event)) = self.drain.clone().run(receiver.recv()).await {
            self.write(event).await;
        }
        receiver.close();
        while let Ok(event) = receiver.try_recv() {
            self.write(event).await;
        }
    }

    async fn write(&mut self, event: Event) {
        let Some(write) = self.correlator.correlate(event, daemon::clock::now()) else { return };
        let mut tries = 0;
        loop {
            match self.send(&write).await {
                Ok(written) => return self.correlator.written(&write, &written),
                // What the server refuses it will refuse again.
                Err(kube::Error::Api(status)) => {
                    debug!(status = status.message, "server rejected an event");
                    return;
                }
                Err(failure) => debug!(%failure, "cannot write an event"),
            }
            tries += 1;
            if tries >= MAX_TRIES {
                warn!("an event could not be written and is lost");
                return;
            }
            let share = if tries == 1 { rand::random::<f64>() } else { 1.0 };
            if self.drain.run(tokio::time::sleep(RETRY_DELAY.mul_f64(share))).await.is_none() {
                return;
            }
        }
    }

    async fn send(&self, write: &Write) -> kube::Result<Event> {
        let namespace = write.event.metadata.namespace.as_deref().unwrap_or("default");
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        if let Some(patch) = &write.patch {
            let name = write.event.metadata.name.as_deref().unwrap_or_default();
            match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                // It expired meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                done => return done,
            }
        }
        api.create(&PostParams::default(), &write.event).await
    }
}

#[cfg(test)]
mod tests;
