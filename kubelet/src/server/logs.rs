//! `/containerLogs/<namespace>/<pod>/<container>`.

use std::collections::HashMap;
use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cri::v1::ContainerState;
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::{Context, Failure, bad_request, not_found};
use crate::logs::read::{self, Options};
use crate::pod;

/// Pieces of log between the reader and the connection.
const QUEUED: usize = 16;

pub(super) async fn serve(
    State(context): State<Context>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let (options, previous) = options(&query)?;
    let kubelet = &context.kubelet;
    let found = kubelet.pods.find(&namespace, &name, None);
    let view = found.ok_or_else(|| not_found(format!("pod {name:?} does not exist\n")))?;
    if pod::find_container(&view.pod, &container).is_none() {
        return Err(not_found(format!("container {container:?} not found in pod {name:?}\n")));
    }
    let id = container_id(&view.status, &name, &container, previous).map_err(bad_request)?;
    let status = kubelet.runtime.container_status(&id).await;
    let status = status.map_err(|_| bad_request(format!("unable to retrieve container logs for containerd://{id}")))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(QUEUED);
    let path = PathBuf::from(status.log_path);
    let runtime = kubelet.runtime.clone();
    kubelet.tasks.spawn("log", async move {
        let is_running = || async {
            let status = runtime.container_status(&id).await;
            status.is_ok_and(|status| status.state == ContainerState::ContainerRunning as i32)
        };
        read::send(path, options, sender, is_running).await;
    });
    let stream = ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>);
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/plain")], Body::from_stream(stream)).into_response())
}

fn options(query: &HashMap<String, String>) -> Result<(Options, bool), Failure> {
    let undecodable = |_| bad_request("{\"message\": \"Unable to decode query.\"}");
    let flag = |key: &str| query.get(key).is_some_and(|value| value != "false" && value != "0");
    let number = |key: &str| -> Result<Option<i64>, Failure> {
        query.get(key).map(|text| text.parse::<i64>().map_err(|_| undecodable(()))).transpose()
    };
    let tail = match query.get("tail").map(String::as_str) {
        Some("all") => None,
        Some(text) => Some(text.parse::<i64>().map_err(|_| undecodable(()))?),
        None => number("tailLines")?,
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => daemon::clock::now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
        (None, Some(text)) => Some(text.parse().map_err(|_| undecodable(()))?),
        (None, None) => None,
    };
    let limit = number("limitBytes")?;
    let stream = query.get("stream").filter(|stream| !stream.is_empty() && *stream != "All").map(|s| s.to_lowercase());
    let invalid = tail.is_some_and(|lines| lines < 0) || limit.is_some_and(|bytes| bytes < 1);
    if invalid {
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, "{\"message\": \"Invalid request.\"}".into()));
    }
    let options = Options {
        follow: flag("follow"),
        tail_lines: tail.and_then(|lines| usize::try_from(lines).ok()),
        since,
        timestamps: flag("timestamps"),
        limit_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
        stream,
    };
    Ok((options, flag("previous")))
}

/// The runtime's id of the container whose log is wanted.
fn container_id(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let mut statuses = lists.into_iter().flat_map(|list| list.iter().flatten());
    let found: Option<&ContainerStatus> = statuses.find(|status| status.name == container);
    let found = found.ok_or_else(|| format!("container {container:?} in pod {pod:?} is not available"))?;
    let bare = |id: Option<&String>| id.and_then(|id| id.strip_prefix("containerd://")).map(str::to_owned);
    let last = found.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_id = bare(last.and_then(|terminated| terminated.container_id.as_ref()));
    if previous {
        return last_id.ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"));
    }
    let state = found.state.clone().unwrap_or_default();
    let ended = || format!("container {container:?} in pod {pod:?} is terminated");
    if state.running.is_some() {
        return bare(found.container_id.as_ref()).ok_or_else(ended);
    }
    if let Some(terminated) = &state.terminated {
        return bare(terminated.container_id.as_ref()).or(last_id).ok_or_else(ended);
    }
    if last.is_some() {
        return last_id.ok_or_else(ended);
    }
    let reason = match state.waiting.and_then(|waiting| waiting.reason).as_deref() {
        Some("ErrImagePull") => "image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
        Some(reason) => reason.to_owned(),
        None => String::new(),
    };
    Err(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_container() {
        let status = |value: serde_json::Value| -> PodStatus {
            let mut one = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0});
            one.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            serde_json::from_value(json!({"containerStatuses": [one]})).unwrap()
        };
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "containerd://old"}});
        let running = status(json!({"containerID": "containerd://new", "state": {"running": {}}, "lastState": ended}));
        let crashing = status(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}));
        let creating = status(json!({"state": {"waiting": {"reason": "ContainerCreating"}}}));
        for (status, previous, expected) in [
            (&running, false, Ok("new")),
            (&running, true, Ok("old")),
            (&crashing, false, Ok("old")),
            (&creating, false, Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating")),
            (&creating, true, Err("previous terminated container \"c\" in pod \"p\" not found")),
        ] {
            let id = container_id(status, "p", "c", previous);
            assert_eq!(id, expected.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn queries() {
        let query = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let (parsed, previous) =
            options(&query(&[("follow", "true"), ("tailLines", "5"), ("previous", "true")])).ok().unwrap();
        assert!(parsed.follow && previous);
        assert_eq!(parsed.tail_lines, Some(5));
        assert!(options(&query(&[("tailLines", "x")])).is_err());
        assert!(options(&query(&[("limitBytes", "0")])).is_err());
    }
}
