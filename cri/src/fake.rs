//! A runtime in memory, for tests of what uses one. Containers run until told to exit.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

use crate::{AttachRequest, Error, Event, EventKind, ExecRequest, Process, Runtime, v1};

/// Events kept for a slow subscriber.
const EVENTS: usize = 256;

/// Every call made, by name, with what it returned being the state here.
pub struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// The pod, by its uid label, whose sandboxes nobody is told of for now.
    held: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// A logical clock: nanoseconds, one second a step.
    now: i64,
    sandboxes: HashMap<String, v1::PodSandboxStatus>,
    containers: HashMap<String, (String, v1::ContainerStatus)>,
    images: Vec<v1::Image>,
    calls: Vec<String>,
    /// Answers of `exec_sync`, by first word of the command.
    exec: HashMap<String, v1::ExecSyncResponse>,
    refuses_updates: bool,
    /// What containers have, by id.
    resources: HashMap<String, v1::LinuxContainerResources>,
    /// Bytes of memory in use, by id.
    memory: HashMap<String, u64>,
    /// Owner and name of what is mounted.
    image_mounts: BTreeSet<(String, String)>,
    handlers: Vec<v1::RuntimeHandler>,
}

const POD_UID: &str = "io.kubernetes.pod.uid";

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}-{}", self.next)
    }

    fn tick(&mut self) -> i64 {
        self.now += 1_000_000_000;
        self.now
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self { state: Mutex::default(), events: broadcast::channel(EVENTS).0, held: watch::Sender::new(None) }
    }
}

fn has_all(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn not_found(what: &str, id: &str) -> Error {
    Error::rpc("fake", &tonic::Status::not_found(format!("{what} {id:?} not found")))
}

impl Fake {
    /// Makes an image known under `name`.
    pub fn add_image(&self, name: &str) {
        let image = v1::Image { id: format!("sha256:{name}"), repo_tags: vec![name.to_owned()], ..Default::default() };
        self.state.lock().images.push(image);
    }

    /// What `exec_sync` answers to commands that start with `word`.
    pub fn answer_exec(&self, word: &str, exit_code: i32, stdout: &str) {
        let answer = v1::ExecSyncResponse { exit_code, stdout: stdout.into(), stderr: Vec::new() };
        self.state.lock().exec.insert(word.to_owned(), answer);
    }

    /// Containers keep the resources that they have.
    pub fn refuse_updates(&self) {
        self.state.lock().refuses_updates = true;
    }

    /// Resources that a container was made with, or given since.
    pub fn resources_of(&self, id: &str) -> Option<v1::LinuxContainerResources> {
        self.state.lock().resources.get(id).cloned()
    }

    /// A container's memory in use, from now on.
    pub fn use_memory(&self, id: &str, bytes: u64) {
        self.state.lock().memory.insert(id.to_owned(), bytes);
    }

    /// Who asks for this pod's sandboxes waits until [`Fake::release`].
    pub fn hold(&self, pod_uid: &str) {
        self.held.send_replace(Some(pod_uid.to_owned()));
    }

    /// Nobody waits any more.
    pub fn release(&self) {
        self.held.send_replace(None);
    }

    /// Owner and name of the images that are mounted.
    pub fn image_mounts(&self) -> Vec<(String, String)> {
        self.state.lock().image_mounts.iter().cloned().collect()
    }

    /// A handler of pods, and whether it can mount read-only all the way down.
    pub fn offer_handler(&self, name: &str, recursive_read_only_mounts: bool) {
        let features = v1::RuntimeHandlerFeatures { recursive_read_only_mounts, ..Default::default() };
        self.state.lock().handlers.push(v1::RuntimeHandler { name: name.to_owned(), features: Some(features) });
    }

    /// Ends a container and tells subscribers.
    pub fn exit(&self, id: &str, exit_code: i32, reason: &str) {
        {
            let mut state = self.state.lock();
            let now = state.tick();
            if let Some((_, status)) = state.containers.get_mut(id) {
                status.state = v1::ContainerState::ContainerExited as i32;
                status.exit_code = exit_code;
                status.finished_at = now;
                status.reason = reason.to_owned();
            }
        }
        self.emit(id, EventKind::Exited);
    }

    /// The calls so far, and forgets them.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().calls)
    }

    fn emit(&self, id: &str, kind: EventKind) {
        // Nobody may be listening.
        let _ = self.events.send(Event { id: id.to_owned(), kind });
    }

    fn record(&self, call: String) {
        self.state.lock().calls.push(call);
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<v1::VersionResponse, Error> {
        Ok(v1::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let condition = |kind: &str| v1::RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let status = v1::RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] };
        let runtime_handlers = self.state.lock().handlers.clone();
        Ok(v1::StatusResponse { status: Some(status), runtime_handlers, ..Default::default() })
    }

    async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let mut state = self.state.lock();
        let id = state.id("sandbox");
        let created_at = state.tick();
        let network =
            v1::PodSandboxNetworkStatus { ip: format!("10.244.0.{}", state.next + 1), additional_ips: vec![] };
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::PodSandboxState::SandboxReady as i32,
            created_at,
            network: Some(network),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: handler.to_owned(),
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        state.calls.push("run_sandbox".into());
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.calls.push(format!("stop_sandbox {id}"));
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.state = v1::PodSandboxState::SandboxNotready as i32;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.calls.push(format!("remove_sandbox {id}"));
        state.sandboxes.remove(id);
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Error> {
        self.state.lock().sandboxes.get(id).cloned().ok_or_else(|| not_found("sandbox", id))
    }

    async fn list_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error> {
        let asked = labels.get(POD_UID);
        // The sender is this very runtime's.
        let _ = self.held.subscribe().wait_for(|held| held.is_none() || held.as_ref() != asked).await;
        let state = self.state.lock();
        let wanted = |s: &&v1::PodSandboxStatus| has_all(&s.labels, &labels);
        let listed = state.sandboxes.values().filter(wanted).cloned().map(|s| v1::PodSandbox {
            id: s.id,
            metadata: s.metadata,
            state: s.state,
            created_at: s.created_at,
            labels: s.labels,
            annotations: s.annotations,
            runtime_handler: s.runtime_handler,
        });
        Ok(listed.collect())
    }

    async fn sandbox_network_namespace(&self, _id: &str) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        _sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let mut state = self.state.lock();
        let id = state.id("container");
        let created_at = state.tick();
        let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        state.calls.push(format!("create_container {name}"));
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
        state.resources.insert(id.clone(), resources);
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::ContainerState::ContainerCreated as i32,
            created_at,
            image_ref: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            image: config.image,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: config.log_path,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (sandbox_id.to_owned(), status));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            let now = state.tick();
            let (_, status) = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
            status.state = v1::ContainerState::ContainerRunning as i32;
            status.started_at = now;
            let name = status.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
            state.calls.push(format!("start_container {name}"));
        }
        self.emit(id, EventKind::Started);
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        self.record(format!("stop_container {id} {}", grace.as_secs()));
        let running =
            self.container_status(id).await.is_ok_and(|s| s.state == v1::ContainerState::ContainerRunning as i32);
        if running {
            self.exit(id, 137, "Error");
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.calls.push(format!("remove_container {id}"));
        state.containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error> {
        let state = self.state.lock();
        let wanted = |(_, s): &&(String, v1::ContainerStatus)| has_all(&s.labels, &labels);
        let listed = state.containers.values().filter(wanted).cloned().map(|(sandbox, s)| v1::Container {
            id: s.id,
            pod_sandbox_id: sandbox,
            metadata: s.metadata,
            image: s.image,
            image_ref: s.image_ref,
            state: s.state,
            created_at: s.created_at,
            labels: s.labels,
            annotations: s.annotations,
            image_id: s.image_id,
        });
        Ok(listed.collect())
    }

    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Error> {
        let state = self.state.lock();
        let found = state.containers.get(id).map(|(_, status)| status.clone());
        found.ok_or_else(|| not_found("container", id))
    }

    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.calls.push(format!("update_container_resources {id}"));
        if state.refuses_updates {
            return Err(Error::rpc("fake", &tonic::Status::internal("no more than it has")));
        }
        if !state.containers.contains_key(id) {
            return Err(not_found("container", id));
        }
        state.resources.insert(id.to_owned(), resources);
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        self.record(format!("reopen_container_log {id}"));
        Ok(())
    }

    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        let state = self.state.lock();
        let stats = |(id, bytes): (&String, &u64)| v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes { id: id.clone(), ..Default::default() }),
            memory: Some(v1::MemoryUsage {
                usage_bytes: Some(v1::UInt64Value { value: *bytes }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(state.memory.iter().map(stats).collect())
    }

    async fn exec_sync(&self, _id: &str, command: Vec<String>, _: Duration) -> Result<v1::ExecSyncResponse, Error> {
        let word = command.first().cloned().unwrap_or_default();
        Ok(self.state.lock().exec.get(&word).cloned().unwrap_or_default())
    }

    async fn exec(&self, request: ExecRequest) -> Result<Process, Error> {
        Err(not_found("streams of container", &request.container_id))
    }

    async fn attach(&self, request: AttachRequest) -> Result<Process, Error> {
        Err(not_found("streams of container", &request.container_id))
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        Ok(self.state.lock().images.clone())
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, Error> {
        let state = self.state.lock();
        let known = |i: &&v1::Image| i.id == image || i.repo_tags.iter().any(|tag| tag == image);
        Ok(state.images.iter().find(known).cloned())
    }

    async fn pull_image(
        &self,
        image: &str,
        _auth: Option<v1::AuthConfig>,
        _sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Error> {
        self.record(format!("pull_image {image}"));
        let found = self.image_status(image).await?;
        found.map(|image| image.id).ok_or_else(|| not_found("image", image))
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.calls.push(format!("remove_image {image}"));
        state.images.retain(|i| i.id != image && !i.repo_tags.iter().any(|tag| tag == image));
        Ok(())
    }

    async fn image_filesystems(&self) -> Result<Vec<v1::FilesystemUsage>, Error> {
        Ok(Vec::new())
    }

    async fn import_image(&self, _archive: &Path, name: Option<&str>) -> Result<Vec<String>, Error> {
        let name = name.unwrap_or("imported").to_owned();
        self.add_image(&name);
        Ok(vec![name])
    }

    async fn mount_image(&self, image: &str, owner: &str, target: &Path) -> Result<(), Error> {
        let name = target.file_name().unwrap_or_default().display().to_string();
        self.record(format!("mount_image {image} {owner} {name}"));
        if self.image_status(image).await?.is_none() {
            return Err(not_found("image", image));
        }
        self.state.lock().image_mounts.insert((owner.to_owned(), name));
        Ok(())
    }

    async fn forget_image_mounts(&self, owner: &str) -> Result<(), Error> {
        self.record(format!("forget_image_mounts {owner}"));
        self.state.lock().image_mounts.retain(|(of, _)| of != owner);
        Ok(())
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        let stream = BroadcastStream::new(self.events.subscribe());
        Ok(stream.filter_map(|event| futures::future::ready(event.ok())).boxed())
    }
}
