//! containerd's task events, reduced to what a node agent acts on.

use containerd_client::events::{TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::types::Envelope;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::transport::Channel;

use super::NAMESPACE;
use crate::{Error, Event, EventKind};

pub(super) async fn subscribe(channel: Channel) -> Result<BoxStream<'static, Event>, Error> {
    let request = SubscribeRequest { filters: vec![format!("namespace=={NAMESPACE},topic~=\"^/tasks/\"")] };
    let answer = EventsClient::new(channel).subscribe(request).await;
    let stream = answer.map_err(|status| Error::rpc("subscribe to events", &status))?.into_inner();
    // An error ends the stream: the subscriber subscribes anew and relists.
    let events = stream
        .take_while(|item| futures::future::ready(item.is_ok()))
        .filter_map(|item| futures::future::ready(item.ok().and_then(|envelope| decode(&envelope))));
    Ok(events.boxed())
}

fn decode(envelope: &Envelope) -> Option<Event> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            // An exec'ed process has an id of its own: its end is nobody's news but its caller's.
            (exit.id == exit.container_id).then_some(Event { id: exit.container_id, kind: EventKind::Exited })
        }
        "/tasks/start" => {
            let id = TaskStart::decode(bytes).ok()?.container_id;
            Some(Event { id, kind: EventKind::Started })
        }
        "/tasks/oom" => {
            let id = TaskOom::decode(bytes).ok()?.container_id;
            Some(Event { id, kind: EventKind::OutOfMemory })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, message: &impl Message) -> Envelope {
        Envelope {
            topic: topic.into(),
            event: Some(prost_types::Any { type_url: String::new(), value: message.encode_to_vec() }),
            ..Default::default()
        }
    }

    #[test]
    fn an_exec_exit_is_no_container_exit() {
        let mut exit = TaskExit { container_id: "c".into(), id: "exec-1".into(), ..Default::default() };
        assert_eq!(decode(&envelope("/tasks/exit", &exit)), None);
        exit.id = "c".into();
        let event = decode(&envelope("/tasks/exit", &exit)).expect("an event");
        assert_eq!(event, Event { id: "c".into(), kind: EventKind::Exited });
    }
}
