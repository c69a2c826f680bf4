//! [`Containerd`]: the runtime trait over one unix socket.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;

use super::lease::{self, Purpose};
use super::{attach, events, exec, import, volume};
use crate::{AttachRequest, Error, Event, ExecRequest, Process, Runtime, v1};

/// Largest CRI message accepted, as the kubelet's own limit.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Slack on top of a stop's grace period before the call itself is given up.
const STOP_SLACK: Duration = Duration::from_secs(120);

/// Deadline of ordinary calls (upstream: `--runtime-request-timeout`).
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Deadline of sandbox creation: it includes the network plug-ins.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);

/// A connection to containerd. Cheap to clone; reconnects by itself.
#[derive(Clone)]
pub struct Containerd {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// Where the named pipes of exec'ed processes are made.
    pipes: PathBuf,
    clock: fn() -> Timestamp,
}

impl Containerd {
    /// Connects to the socket at `socket`. `pipes` is a directory, made when needed, that containerd's
    /// shims can reach under the same path. `clock` tells the time.
    ///
    /// # Errors
    /// When nothing answers at the socket.
    pub async fn connect(socket: &Path, pipes: &Path, clock: fn() -> Timestamp) -> Result<Self, Error> {
        let channel = containerd_client::connect(socket)
            .await
            .map_err(|source| Error::Connect { endpoint: socket.display().to_string(), source })?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            channel,
            pipes: pipes.to_owned(),
            clock,
        })
    }

    /// Lets go of what was kept for images that were being laid out when an earlier node agent ended. To be called before
    /// the first [`Runtime::mount_image`] of this one.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn forget_unfinished(&self) -> Result<(), Error> {
        lease::delete_all(self, Purpose::Unpack).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn pipes(&self) -> &Path {
        &self.pipes
    }

    pub(crate) fn image_service(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    pub(crate) fn cri(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }
}

fn with_timeout<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

fn call<T>(message: T) -> tonic::Request<T> {
    with_timeout(message, CALL_TIMEOUT)
}

fn failed(operation: &'static str) -> impl Fn(tonic::Status) -> Error {
    move |status| Error::rpc(operation, &status)
}

#[async_trait]
impl Runtime for Containerd {
    async fn version(&self) -> Result<v1::VersionResponse, Error> {
        let request = v1::VersionRequest { version: "0.1.0".into() };
        let answer = self.cri().version(call(request)).await;
        Ok(answer.map_err(failed("version"))?.into_inner())
    }

    async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let answer = self.cri().status(call(v1::StatusRequest { verbose: false })).await;
        let answer = answer.map_err(failed("status"))?.into_inner();
        match answer.status {
            Some(_) => Ok(answer),
            None => Err(Error::Incomplete { operation: "status", missing: "status" }),
        }
    }

    async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        let answer = self.cri().run_pod_sandbox(with_timeout(request, SANDBOX_TIMEOUT)).await;
        Ok(answer.map_err(failed("run sandbox"))?.into_inner().pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let answer = self.cri().stop_pod_sandbox(call(request)).await;
        answer.map(drop).map_err(failed("stop sandbox"))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let answer = self.cri().remove_pod_sandbox(call(request)).await;
        answer.map(drop).map_err(failed("remove sandbox"))
    }

    async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Error> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.cri().pod_sandbox_status(call(request)).await;
        let status = answer.map_err(failed("sandbox status"))?.into_inner().status;
        status.ok_or(Error::Incomplete { operation: "sandbox status", missing: "status" })
    }

    async fn list_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error> {
        let filter = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.cri().list_pod_sandbox(call(request)).await;
        Ok(answer.map_err(failed("list sandboxes"))?.into_inner().items)
    }

    async fn sandbox_network_namespace(&self, id: &str) -> Result<Option<PathBuf>, Error> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer = self.cri().pod_sandbox_status(call(request)).await;
        let info = answer.map_err(failed("sandbox status"))?.into_inner().info;
        let info = info.get("info").map(String::as_str).unwrap_or_default();
        Ok(network_namespace(info))
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = self.cri().create_container(call(request)).await;
        Ok(answer.map_err(failed("create container"))?.into_inner().container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        let answer = self.cri().start_container(call(request)).await;
        answer.map(drop).map_err(failed("start container"))
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        let answer = self.cri().stop_container(with_timeout(request, grace + STOP_SLACK)).await;
        answer.map(drop).map_err(failed("stop container"))
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        let answer = self.cri().remove_container(call(request)).await;
        answer.map(drop).map_err(failed("remove container"))
    }

    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error> {
        let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let answer = self.cri().list_containers(call(request)).await;
        Ok(answer.map_err(failed("list containers"))?.into_inner().containers)
    }

    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Error> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.cri().container_status(call(request)).await;
        let status = answer.map_err(failed("container status"))?.into_inner().status;
        status.ok_or(Error::Incomplete { operation: "container status", missing: "status" })
    }

    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<(), Error> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        let answer = self.cri().update_container_resources(call(request)).await;
        answer.map(drop).map_err(failed("update container resources"))
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        let answer = self.cri().reopen_container_log(call(request)).await;
        answer.map(drop).map_err(failed("reopen container log"))
    }

    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        let request = v1::ListContainerStatsRequest::default();
        let answer = self.cri().list_container_stats(call(request)).await;
        Ok(answer.map_err(failed("list container stats"))?.into_inner().stats)
    }

    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, Error> {
        let request = v1::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command,
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        let request = match timeout.as_secs() {
            0 => tonic::Request::new(request),
            // The runtime enforces the timeout; the call's own is a safety net.
            _ => with_timeout(request, timeout + CALL_TIMEOUT),
        };
        let answer = self.cri().exec_sync(request).await;
        Ok(answer.map_err(failed("exec"))?.into_inner())
    }

    async fn exec(&self, request: ExecRequest) -> Result<Process, Error> {
        exec::start(self, request).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<Process, Error> {
        attach::start(self, request).await
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        let answer = self.images.clone().list_images(call(v1::ListImagesRequest::default())).await;
        Ok(answer.map_err(failed("list images"))?.into_inner().images)
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, Error> {
        let request = v1::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        let answer = self.images.clone().image_status(call(request)).await;
        Ok(answer.map_err(failed("image status"))?.into_inner().image)
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Error> {
        let request = v1::PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config: sandbox };
        let answer = self.images.clone().pull_image(request).await;
        Ok(answer.map_err(failed("pull image"))?.into_inner().image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let request = v1::RemoveImageRequest { image: Some(image_spec(image)) };
        let answer = self.images.clone().remove_image(call(request)).await;
        answer.map(drop).map_err(failed("remove image"))
    }

    async fn image_filesystems(&self) -> Result<Vec<v1::FilesystemUsage>, Error> {
        let answer = self.images.clone().image_fs_info(call(v1::ImageFsInfoRequest {})).await;
        Ok(answer.map_err(failed("image file systems"))?.into_inner().image_filesystems)
    }

    async fn import_image(&self, archive: &Path, name: Option<&str>) -> Result<Vec<String>, Error> {
        import::import(self, archive, name).await
    }

    async fn mount_image(&self, image: &str, owner: &str, target: &Path) -> Result<(), Error> {
        volume::show(self, image, owner, target).await
    }

    async fn forget_image_mounts(&self, owner: &str) -> Result<(), Error> {
        volume::forget(self, owner).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        events::subscribe(self.channel()).await
    }
}

fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: image.to_owned(), ..Default::default() }
}

/// Reads the path out of the verbose sandbox status: `runtimeSpec.linux.namespaces[type=network].path`.
fn network_namespace(info: &str) -> Option<PathBuf> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces.iter().find(|n| n["type"] == "network")?;
    let path = network.get("path")?.as_str()?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_network_namespace() {
        let info =
            r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/x"}]}}}"#;
        assert_eq!(network_namespace(info), Some(PathBuf::from("/run/netns/x")));
        assert_eq!(network_namespace("{}"), None);
        assert_eq!(network_namespace(""), None);
    }
}
