//! Getting images: policies, credentials, back-off, and the events and reasons that tell about them.

mod credentials;
pub(crate) mod gc;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cri::{Runtime, v1};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use reconcile::EventType;
use tokio::sync::Semaphore;

use crate::backoff::{Backoffs, go_duration};
use crate::events::Events;
use crate::objects::Objects;
use crate::pod;
use crate::spec::security::ImageUser;
use crate::status::WaitingReason;

const INITIAL_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Pulls at a time when they need not be one after the other.
const PARALLEL_PULLS: usize = 5;

pub(crate) struct Images {
    runtime: Arc<dyn Runtime>,
    backoffs: Backoffs,
    /// What the last pull said, for the message while backing off.
    last_errors: Mutex<HashMap<String, String>>,
    permits: Semaphore,
}

/// An image that is here.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub reference: String,
    pub user: ImageUser,
}

pub(crate) struct Wanted<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// For what a runtime pulls differently for some pods.
    pub sandbox: &'a v1::PodSandboxConfig,
}

fn waiting(reason: &str, message: String) -> WaitingReason {
    WaitingReason { reason: reason.to_owned(), message }
}

impl Images {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, serialize: bool) -> Self {
        Self {
            runtime,
            backoffs: Backoffs::new(INITIAL_BACKOFF, MAX_BACKOFF),
            last_errors: Mutex::default(),
            permits: Semaphore::new(if serialize { 1 } else { PARALLEL_PULLS }),
        }
    }

    /// Makes sure the container's image is here.
    ///
    /// # Errors
    /// The waiting reason that the container's status shows.
    pub(crate) async fn ensure(
        &self,
        wanted: &Wanted<'_>,
        objects: &Objects,
        events: &Events<'_>,
    ) -> Result<Present, WaitingReason> {
        let requested = wanted.container.image.clone().unwrap_or_default();
        let Some(image) = with_tag(&requested) else {
            let message = format!("Failed to apply default image tag {requested:?}: couldn't parse image name");
            events.container(EventType::Warning, "InspectFailed", &message);
            return Err(waiting("InvalidImageName", message));
        };
        let policy = wanted.container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        if policy != "Always" {
            if let Some(present) = self.inspect(&image, events).await? {
                let message =
                    format!("Container image {requested:?} already present on machine and can be accessed by the pod");
                events.container(EventType::Normal, "Pulled", &message);
                return Ok(present);
            }
            if policy == "Never" {
                let message = format!("Container image {requested:?} is not present with pull policy of Never");
                events.container(EventType::Warning, "ErrImageNeverPull", &message);
                return Err(waiting("ErrImageNeverPull", message));
            }
        }
        self.pull(wanted, &requested, &image, objects, events).await
    }

    async fn inspect(&self, image: &str, events: &Events<'_>) -> Result<Option<Present>, WaitingReason> {
        let found = self.runtime.image_status(image).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            events.container(EventType::Warning, "InspectFailed", &message);
            waiting("ImageInspectError", message)
        })?;
        Ok(found.map(|image| present(&image)))
    }

    async fn pull(
        &self,
        wanted: &Wanted<'_>,
        requested: &str,
        image: &str,
        objects: &Objects,
        events: &Events<'_>,
    ) -> Result<Present, WaitingReason> {
        let key = format!("{}_{requested}", pod::uid(wanted.pod));
        if self.backoffs.pending_since_update(&key, daemon::clock::now()).is_some() {
            let message = format!("Back-off pulling image {requested:?}");
            events.container(EventType::Normal, "BackOff", &message);
            let last = self.last_errors.lock().get(&key).map(|last| format!(": {last}")).unwrap_or_default();
            return Err(waiting("ImagePullBackOff", format!("{message}{last}")));
        }
        let auths = credentials::for_image(objects, wanted.pod, image, events).await;
        events.container(EventType::Normal, "Pulling", &format!("Pulling image {requested:?}"));
        let asked = daemon::clock::monotonic();
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let began = daemon::clock::monotonic();
        if let Err(error) = self.pull_with(image, auths, wanted.sandbox).await {
            let message = format!("Failed to pull image {requested:?}: {error}");
            events.container(EventType::Warning, "Failed", &message);
            let now = daemon::clock::now();
            self.backoffs.next(&key, now, now);
            self.last_errors.lock().insert(key, format!("ErrImagePull: {error}"));
            return Err(waiting("ErrImagePull", error.to_string()));
        }
        self.last_errors.lock().remove(&key);
        let (pulling, whole) = (began.elapsed(), asked.elapsed());
        let found = self.runtime.image_status(image).await.ok().flatten();
        let found =
            found.ok_or_else(|| waiting("ErrImagePull", format!("image {requested:?} is gone after its pull")))?;
        let message = format!(
            "Successfully pulled image {requested:?} in {} ({} including waiting). Image size: {} bytes.",
            go_duration(pulling),
            go_duration(whole),
            found.size
        );
        events.container(EventType::Normal, "Pulled", &message);
        Ok(present(&found))
    }

    /// Tries each credential in turn; without any, anonymously.
    async fn pull_with(
        &self,
        image: &str,
        auths: Vec<v1::AuthConfig>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, cri::Error> {
        let mut last = None;
        for auth in auths {
            match self.runtime.pull_image(image, Some(auth), Some(sandbox.clone())).await {
                Ok(reference) => return Ok(reference),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => self.runtime.pull_image(image, None, Some(sandbox.clone())).await,
        }
    }

    /// How long until this pod's pull of this image may be tried again.
    pub(crate) fn retry_after(&self, pod: &Pod, image: &str) -> Option<Duration> {
        let key = format!("{}_{image}", pod::uid(pod));
        self.backoffs.pending_since_update(&key, daemon::clock::now())
    }

    pub(crate) fn forget(&self, uid: &str) {
        let prefix = format!("{uid}_");
        self.backoffs.forget(&prefix);
        self.last_errors.lock().retain(|key, _| !key.starts_with(&prefix));
    }
}

fn present(image: &v1::Image) -> Present {
    Present {
        reference: image.id.clone(),
        user: ImageUser {
            // Neither set means root.
            uid: image.uid.as_ref().map(|uid| uid.value).or(image.username.is_empty().then_some(0)),
            name: image.username.clone(),
        },
    }
}

/// A name with `:latest` when it has neither tag nor digest; none for what is no image name.
fn with_tag(image: &str) -> Option<String> {
    let name = image.split('@').next().unwrap_or_default();
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./_-:".contains(c);
    let repository = path.split_once('/').filter(|(host, _)| host.contains(['.', ':'])).map_or(path, |(_, rest)| rest);
    if repository.is_empty() || !repository.chars().all(valid) || tag.is_some_and(str::is_empty) {
        return None;
    }
    if tag.is_some() || image.contains('@') { Some(image.to_owned()) } else { Some(format!("{image}:latest")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_tags() {
        for (image, expected) in [
            ("busybox", Some("busybox:latest")),
            ("busybox:1", Some("busybox:1")),
            ("reg:5000/a/b", Some("reg:5000/a/b:latest")),
            ("reg:5000/a/b:1", Some("reg:5000/a/b:1")),
            ("a@sha256:00", Some("a@sha256:00")),
            ("", None),
            ("UPPER", None),
            ("a b", None),
        ] {
            assert_eq!(with_tag(image).as_deref(), expected, "{image}");
        }
    }
}
