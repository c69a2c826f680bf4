//! Starting one container: back-off, image, configuration, creation, start, hook.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use reconcile::EventType;

use super::{RETRY, Worker, hooks};
use crate::backoff::go_duration;
use crate::events::Events;
use crate::images::{Present, Wanted};
use crate::observed::{PodObserved, State, timestamp};
use crate::plan::{Kill, KillReason};
use crate::pod;
use crate::spec::recursion::recursively_read_only;
use crate::spec::{container as spec, env, hosts};
use crate::status::WaitingReason;
use crate::volumes::{self, ImageVolumes, Volumes};

/// What starting a container needs to know beside its spec.
pub(super) struct Context<'a> {
    pub observed: PodObserved,
    pub volumes: &'a Volumes,
    pub images: ImageVolumes,
    pub sandbox: v1::PodSandboxConfig,
    pub sandbox_id: String,
}

/// A failure: what the status shows, and when to try again.
struct Failed {
    why: WaitingReason,
    retry: Duration,
}

fn failed(reason: &str, message: impl Into<String>) -> Failed {
    Failed { why: WaitingReason { reason: reason.to_owned(), message: message.into() }, retry: RETRY }
}

impl Worker {
    pub(super) async fn start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        context: &Context<'_>,
        target: Option<&str>,
    ) -> Result<(), Duration> {
        match self.try_start(pod, container, context, target).await {
            Ok(()) => {
                self.waiting.remove(&container.name);
                Ok(())
            }
            Err(failure) => {
                self.waiting.insert(container.name.clone(), failure.why);
                Err(failure.retry)
            }
        }
    }

    async fn try_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        context: &Context<'_>,
        target: Option<&str>,
    ) -> Result<(), Failed> {
        let kubelet = self.kubelet.clone();
        let events = Events::of_container(&kubelet.recorder, pod, &container.name);
        self.check_backoff(pod, container, &context.observed, &events)?;
        self.check_images(pod, container, context, &events)?;
        let wanted = Wanted { pod, container, sandbox: &context.sandbox };
        let image = self.kubelet.images.ensure(&wanted, &self.kubelet.objects, &events).await.map_err(|why| {
            events.container(EventType::Warning, "Failed", &format!("Error: {}", why.reason));
            self.image_failed(pod, container.image.as_deref(), why)
        })?;
        let config = self.configure(pod, container, context, target, image).await.map_err(|message| {
            events.container(EventType::Warning, "Failed", &format!("Error: {message}"));
            failed("CreateContainerConfigError", message)
        })?;
        let log = Path::new(&context.sandbox.log_directory).join(&config.log_path);
        let made = self.kubelet.runtime.create_container(&context.sandbox_id, config, context.sandbox.clone()).await;
        let id = made.map_err(|error| {
            events.container(EventType::Warning, "Failed", &format!("Error: {}", error.description()));
            failed("CreateContainerError", error.description())
        })?;
        self.note_actuated(&id, container);
        events.container(EventType::Normal, "Created", "Container created");
        self.kubelet.runtime.start_container(&id).await.map_err(|error| {
            events.container(EventType::Warning, "Failed", &format!("Error: {}", error.description()));
            failed("RunContainerError", error.description())
        })?;
        events.container(EventType::Normal, "Started", "Container started");
        self.link_log(pod, container, &id, &log);
        self.post_start(pod, container, &id, context, &events).await
    }

    /// What an image lacks that the container has as a volume is told as if it were the container's own: as upstream.
    fn check_images(
        &self,
        pod: &Pod,
        container: &Container,
        context: &Context<'_>,
        events: &Events<'_>,
    ) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for mount in container.volume_mounts.iter().flatten() {
            let Some(Err(why)) = context.images.get(&mount.name) else { continue };
            let text = if why.reason == volumes::IMAGE_NOT_MOUNTED { &why.message } else { &why.reason };
            events.container(EventType::Warning, "Failed", &format!("Error: {text}"));
            let mut volumes = pod::spec(pod).volumes.iter().flatten();
            let image = volumes.find(|volume| volume.name == mount.name).and_then(|volume| volume.image.as_ref());
            outcome = Err(self.image_failed(pod, image.and_then(|image| image.reference.as_deref()), why.clone()));
        }
        outcome
    }

    fn image_failed(&self, pod: &Pod, image: Option<&str>, why: WaitingReason) -> Failed {
        let retry = self.kubelet.images.retry_after(pod, image.unwrap_or_default()).unwrap_or(RETRY);
        Failed { why, retry }
    }

    /// A container that keeps ending waits longer each time.
    fn check_backoff(
        &self,
        pod: &Pod,
        container: &Container,
        observed: &PodObserved,
        events: &Events<'_>,
    ) -> Result<(), Failed> {
        let last = observed.containers.iter().find(|c| c.name == container.name && c.state == State::Exited);
        let Some(finished) = last.and_then(|last| timestamp(last.finished_at)) else { return Ok(()) };
        let key = format!("{}_{}", self.uid, container.name);
        let now = daemon::clock::now();
        let Some(delay) = self.kubelet.crashes.pending(&key, finished, now) else {
            self.kubelet.crashes.next(&key, finished, now);
            return Ok(());
        };
        let name = pod::describe(pod);
        let message = format!("Back-off restarting failed container {} in pod {name}", container.name);
        events.container(EventType::Warning, "BackOff", &message);
        let message =
            format!("back-off {} restarting failed container={} pod={name}", go_duration(delay), container.name);
        let passed = Duration::try_from(now.duration_since(finished)).unwrap_or_default();
        Err(Failed { retry: delay.saturating_sub(passed), ..failed("CrashLoopBackOff", message) })
    }

    async fn configure(
        &self,
        pod: &Pod,
        container: &Container,
        context: &Context<'_>,
        target: Option<&str>,
        image: Present,
    ) -> Result<v1::ContainerConfig, String> {
        let kubelet = &self.kubelet;
        let ips = match pod::is_host_network(pod) {
            true => kubelet.host_ips(),
            false => context.observed.ips(),
        };
        let referred = kubelet.objects.referred(pod, container).await?;
        let services = kubelet.objects.service_variables(pod).await;
        let env = env::build(&env::Inputs {
            pod,
            container,
            referred: &referred,
            services: &services,
            addresses: &kubelet.addresses(&ips),
            node: kubelet.allocatable(),
        })?;
        let target_id = match target {
            Some(name) => Some(running_id(&context.observed, name)?),
            None => None,
        };
        let restart_count = self.restart_count(pod, container, &context.observed);
        let mounts = self.mounts(pod, container, context, &env, &ips)?;
        let logs = Path::new(&context.sandbox.log_directory).join(&container.name);
        let made = std::fs::create_dir_all(&logs);
        made.map_err(|error| {
            format!("create container log directory for container {} failed: {error}", container.name)
        })?;
        spec::build(spec::Inputs {
            pod,
            container,
            restart_count,
            image_ref: image.reference,
            image_user: &image.user,
            env,
            mounts,
            memory_capacity: kubelet.machine.memory_bytes,
            seccomp_root: &kubelet.config.seccomp_dir,
            target_id,
        })
    }

    /// One more than the last one's; after the runtime lost it, than the last log's.
    fn restart_count(&self, pod: &Pod, container: &Container, observed: &PodObserved) -> i32 {
        if let Some(last) = observed.container(&container.name) {
            return last.restart_count + 1;
        }
        let directory =
            crate::spec::sandbox::log_directory(&self.kubelet.config.pod_logs_dir, pod).join(&container.name);
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let number = |name: &str| name.split('.').next().and_then(|number| number.parse::<i32>().ok());
        let last = entries.filter_map(|entry| number(&entry.file_name().to_string_lossy())).max();
        last.map_or(0, |last| last + 1)
    }

    fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        context: &Context<'_>,
        env: &std::collections::BTreeMap<String, String>,
        ips: &[String],
    ) -> Result<Vec<v1::Mount>, String> {
        let directory = volumes::pod_directory(&self.kubelet.config.root_dir, &self.uid);
        if let Some(device) = container.volume_devices.iter().flatten().next() {
            return Err(format!(
                "volume {:?} is wanted as a block device, which this node does not support",
                device.name
            ));
        }
        let able = self.mounts_recursively_read_only(pod, &context.observed);
        let mut mounts = Vec::new();
        for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            let missing =
                || format!("cannot find volume {:?} to mount into container {:?}", wanted.name, container.name);
            let recursive = recursively_read_only(wanted, able)
                .map_err(|why| format!("failed to resolve recursive read-only mode: {why}"))?;
            let image = || context.images.get(&wanted.name).and_then(|image| image.as_ref().ok());
            let volume = context.volumes.get(&wanted.name).or_else(image).ok_or_else(missing)?;
            let expanded =
                wanted.sub_path_expr.as_deref().filter(|expr| !expr.is_empty()).map(|expr| expand_path(expr, env));
            let subpath = expanded.transpose()?.or_else(|| wanted.sub_path.clone()).filter(|path| !path.is_empty());
            let host_path = match subpath {
                None => volume.path.clone(),
                Some(subpath) => {
                    let place = volumes::SubpathPlace {
                        pod_directory: &directory,
                        volume: &wanted.name,
                        container: &container.name,
                        index,
                    };
                    volumes::prepare_subpath(&volume.path, &subpath, &place)?
                }
            };
            let mounted = mount(wanted, &host_path, volume.read_only);
            mounts.push(v1::Mount { recursive_read_only: recursive, ..mounted });
        }
        if let Some(hosts) = self.hosts_mount(pod, container, &directory, ips)? {
            mounts.push(hosts);
        }
        mounts.extend(termination_mount(container, &directory)?);
        Ok(mounts)
    }

    fn hosts_mount(
        &self,
        pod: &Pod,
        container: &Container,
        directory: &Path,
        ips: &[String],
    ) -> Result<Option<v1::Mount>, String> {
        let own = container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == "/etc/hosts");
        if own || ips.is_empty() {
            return Ok(None);
        }
        let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
        let text = match pod::is_host_network(pod) {
            true => hosts::of_host(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases),
            false => {
                let (name, domain) = hosts::hostname(pod, &self.kubelet.config.cluster_domain);
                hosts::managed(ips, &name, &domain, aliases)
            }
        };
        let path = directory.join("etc-hosts");
        std::fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))?;
        Ok(Some(v1::Mount {
            container_path: "/etc/hosts".into(),
            host_path: path.display().to_string(),
            selinux_relabel: true,
            ..v1::Mount::default()
        }))
    }

    /// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, where log collectors look.
    fn link_log(&self, pod: &Pod, container: &Container, id: &str, log: &Path) {
        let directory = &self.kubelet.config.container_logs_dir;
        let name = format!("{}_{}_{}-{id}.log", pod::name(pod), pod::namespace(pod), container.name);
        let linked =
            std::fs::create_dir_all(directory).and_then(|()| std::os::unix::fs::symlink(log, directory.join(name)));
        if let Err(error) = linked {
            tracing::debug!(%error, "cannot link a container's log");
        }
    }

    async fn post_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        id: &str,
        context: &Context<'_>,
        events: &Events<'_>,
    ) -> Result<(), Failed> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = context.observed.ips().into_iter().next().or_else(|| self.kubelet.host_ips().into_iter().next());
        let Err(message) = hooks::run(&*self.kubelet.runtime, hook, id, container, ip.as_deref()).await else {
            return Ok(());
        };
        // The message may hold a secret of the server's: it stays out of the event.
        events.container(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        let kill = Kill {
            id: id.to_owned(),
            name: container.name.clone(),
            message: "FailedPostStartHook".into(),
            reason: KillReason::Other,
        };
        let _ = self.kill_container(pod, &kill).await;
        Err(failed("PostStartHookError", message))
    }
}

fn running_id(observed: &PodObserved, name: &str) -> Result<String, String> {
    let running = observed.container(name).filter(|c| c.state == State::Running);
    running.map(|c| c.id.clone()).ok_or_else(|| format!("unable to find target container {name:?}"))
}

/// Every reference has to be known.
fn expand_path(expression: &str, env: &std::collections::BTreeMap<String, String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let lookup = |name: &str| {
        let value = env.get(name).cloned();
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    };
    let expanded = crate::spec::expand::expand(expression, &lookup);
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(expanded),
    }
}

fn mount(wanted: &VolumeMount, host_path: &Path, read_only: bool) -> v1::Mount {
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let absolute = wanted.mount_path.starts_with('/');
    v1::Mount {
        container_path: if absolute { wanted.mount_path.clone() } else { format!("/{}", wanted.mount_path) },
        host_path: host_path.display().to_string(),
        readonly: wanted.read_only.unwrap_or(false) || read_only,
        propagation: propagation as i32,
        ..v1::Mount::default()
    }
}

/// A file of its own for each start: what an earlier one wrote must not be taken for this one's.
fn termination_mount(container: &Container, directory: &Path) -> Result<Option<v1::Mount>, String> {
    let Some(path) = container.termination_message_path.as_deref().filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let file: PathBuf =
        directory.join("containers").join(&container.name).join(format!("{:08x}", rand::random::<u32>()));
    let make = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(file.parent().unwrap_or(directory))?;
        std::fs::write(&file, b"")?;
        // Whatever user the container runs as may write its last words.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))
    };
    make().map_err(|error| format!("make termination message file: {error}"))?;
    Ok(Some(v1::Mount {
        container_path: path.to_owned(),
        host_path: file.display().to_string(),
        selinux_relabel: true,
        ..v1::Mount::default()
    }))
}
