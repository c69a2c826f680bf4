//! Creates and deletes pods for a controller, and tells it in events about the owner.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use reconcile::{EventType, Recorder};

use crate::{Error, error::During as _};

/// Limit of an object's name.
const MAX_NAME: usize = 253;

#[derive(Clone)]
pub(crate) struct PodControl {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
}

impl PodControl {
    /// Creates a pod in the owner's namespace.
    pub(crate) async fn create(&self, owner: &ObjectReference, pod: &Pod) -> Result<Pod, Error> {
        let namespace = owner.namespace.as_deref().unwrap_or_default();
        if pod.labels().is_empty() {
            return Err(Error::Unfinished("unable to create pods, no labels".to_owned()));
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let name = pod.metadata.name.as_deref().or(pod.metadata.generate_name.as_deref()).unwrap_or_default();
        let created = api.create(&PostParams::default(), pod).await;
        let created = created.during("create pod", format_args!("{namespace}/{name}"));
        match &created {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.name_any());
                self.recorder.event_about(owner.clone(), EventType::Normal, "SuccessfulCreate", message);
            }
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => {
                let message = format!("Error creating: {}", error.message());
                self.recorder.event_about(owner.clone(), EventType::Warning, "FailedCreate", message);
            }
        }
        created
    }

    /// Deletes a pod of the owner's namespace. One that does not exist is an error too, without an event.
    pub(crate) async fn delete(&self, owner: &ObjectReference, name: &str) -> Result<(), Error> {
        let namespace = owner.namespace.as_deref().unwrap_or_default();
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let deleted = api.delete(name, &DeleteParams::default()).await.map(drop);
        let deleted = deleted.during("delete pod", format_args!("{namespace}/{name}"));
        match &deleted {
            Ok(()) => {
                let message = format!("Deleted pod: {name}");
                self.recorder.event_about(owner.clone(), EventType::Normal, "SuccessfulDelete", message);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let message = format!("Error deleting: {}", error.message());
                self.recorder.event_about(owner.clone(), EventType::Warning, "FailedDelete", message);
            }
        }
        deleted
    }
}

impl PodControl {
    /// Deletes pods of the owner's namespace, all at once. Those that are gone already are no failure. `unseen` is told
    /// the uids of pods that no event will show to go.
    pub(crate) async fn delete_all(
        &self,
        owner: &ObjectReference,
        pods: &[Arc<Pod>],
        unseen: impl Fn(&str),
    ) -> Result<(), Error> {
        let deletions = pods.iter().map(|pod| async {
            let deleted = self.delete(owner, pod.metadata.name.as_deref().unwrap_or_default()).await;
            if deleted.is_err() {
                unseen(pod.metadata.uid.as_deref().unwrap_or_default());
            }
            match deleted {
                Err(error) if error.is_not_found() => Ok(()),
                done => done,
            }
        });
        futures::future::join_all(deletions).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

/// A pod as a template says, named after its owner, which controls it.
pub(crate) fn pod_of(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn prefix(owner: &str) -> String {
    if owner.len() < MAX_NAME { format!("{owner}-") } else { owner.to_owned() }
}

/// Calls `act` up to `count` times, in batches that double from one while all succeed: what fails for one probably
/// fails for all. Returns how many succeeded, and the first failure.
pub(crate) async fn slow_start<F, E>(count: usize, act: impl Fn(usize) -> F) -> (usize, Option<E>)
where
    F: Future<Output = Result<(), E>>,
{
    let (mut done, mut batch) = (0, 1);
    while done < count {
        let size = batch.min(count - done);
        let outcomes = futures::future::join_all((done..done + size).map(&act)).await;
        let succeeded = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        if let Some(failure) = outcomes.into_iter().find_map(Result::err) {
            return (done + succeeded, Some(failure));
        }
        done += size;
        batch *= 2;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_failure_ends_with_its_batch() {
        let outcome = |number: usize, failing: usize| if number == failing { Err(number) } else { Ok(()) };
        for (count, failing, calls, succeeded) in [(10, 99, 10, 10), (10, 0, 1, 0), (10, 4, 7, 6), (0, 0, 0, 0)] {
            let called = AtomicUsize::new(0);
            let act = |number| {
                called.fetch_add(1, Ordering::Relaxed);
                std::future::ready(outcome(number, failing))
            };
            let (done, failure) = slow_start(count, act).await;
            assert_eq!((called.load(Ordering::Relaxed), done), (calls, succeeded), "{count} failing at {failing}");
            assert_eq!(failure.is_some(), succeeded < count);
        }
    }

    #[tokio::test]
    async fn one_that_cannot_be_deleted_does_not_keep_the_others() {
        let answer = |request: http::Request<kube::client::Body>| async move {
            let code = match request.uri().path().rsplit('/').next() {
                Some("bad") => 500,
                Some("gone") => 404,
                _ => 200,
            };
            let body = serde_json::json!({"kind": "Status", "status": "Failure", "code": code}).to_string();
            http::Response::builder().status(code).body(kube::client::Body::from(body.into_bytes()))
        };
        let client = Client::new(tower::service_fn(answer), "ns");
        let control = PodControl { client, recorder: Recorder::detached("test").0 };
        let pod = |name: &str| {
            let metadata =
                ObjectMeta { name: Some(name.to_owned()), uid: Some(name.to_owned()), ..ObjectMeta::default() };
            Arc::new(Pod { metadata, ..Pod::default() })
        };
        let owner = ObjectReference { namespace: Some("ns".to_owned()), ..ObjectReference::default() };
        let unseen = std::cell::RefCell::new(Vec::new());
        let note = |uid: &str| unseen.borrow_mut().push(uid.to_owned());
        let deleted = control.delete_all(&owner, &["bad", "a", "gone", "b"].map(pod), note).await;
        assert_eq!(deleted.unwrap_err().status_code(), Some(500));
        unseen.borrow_mut().sort_unstable();
        assert_eq!(unseen.into_inner(), ["bad", "gone"], "the others are expected to be seen going");
    }

    #[test]
    fn long_names_lose_the_dash() {
        assert_eq!(prefix("web"), "web-");
        assert_eq!(prefix(&"x".repeat(253)).len(), 253);
    }
}
