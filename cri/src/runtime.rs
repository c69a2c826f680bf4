//! The one trait between a node agent and a container runtime.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Error, Process, v1};

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    pub container_id: String,
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Which streams of a container's first process to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    pub container_id: String,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Something happened to a container or sandbox; the receiver asks the runtime for its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Id of the container or sandbox.
    pub id: String,
    pub kind: EventKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Started,
    Exited,
    OutOfMemory,
}

/// CRI v1's calls, plus the few that CRI lacks. Errors carry the runtime's own words.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<v1::VersionResponse, Error>;
    /// Conditions, never absent, and what the handlers of pods can do, when the runtime tells.
    async fn status(&self) -> Result<v1::StatusResponse, Error>;

    async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error>;
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Error>;
    /// All of them, or those with every one of these labels.
    async fn list_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error>;
    /// The path of the sandbox's network namespace; none when it shares the host's.
    async fn sandbox_network_namespace(&self, id: &str) -> Result<Option<PathBuf>, Error>;

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Sends the stop signal, waits `grace`, then kills.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// All of them, dead ones too, or those with every one of these labels.
    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error>;
    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Error>;
    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<(), Error>;
    async fn reopen_container_log(&self, id: &str) -> Result<(), Error>;
    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error>;

    /// Runs a command to its end; `timeout` zero means none.
    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, Error>;
    async fn exec(&self, request: ExecRequest) -> Result<Process, Error>;
    async fn attach(&self, request: AttachRequest) -> Result<Process, Error>;

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error>;
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, Error>;
    /// Returns the image's reference (digest) in the runtime.
    async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Error>;
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    async fn image_filesystems(&self) -> Result<Vec<v1::FilesystemUsage>, Error>;
    /// Imports an OCI or docker archive; returns the names it made known. `name` replaces the archive's own.
    async fn import_image(&self, archive: &Path, name: Option<&str>) -> Result<Vec<String>, Error>;

    /// Mounts what an image that is here holds, read-only, on a directory. `owner` is whom the mount is forgotten with, and names it
    /// together with the directory's own name.
    async fn mount_image(&self, image: &str, owner: &str, target: &Path) -> Result<(), Error>;
    /// Gives back what an owner's mounts needed. They have been unmounted.
    async fn forget_image_mounts(&self, owner: &str) -> Result<(), Error>;

    /// Events from now on; the stream ends when the connection does.
    async fn events(&self) -> Result<BoxStream<'static, Event>, Error>;
}
