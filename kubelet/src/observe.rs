//! Asks the runtime about one pod.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use cri::{Runtime, v1};

use crate::logs;
use crate::observed::{
    ANNOTATION_MESSAGE_PATH, ANNOTATION_MESSAGE_POLICY, LABEL_POD_UID, Observed, PodObserved, State, container, sandbox,
};

/// Largest termination message, and largest piece of a log in place of one.
const MAX_MESSAGE_BYTES: u64 = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// Everything about the pod with this uid, newest first. What vanishes between two calls is left out.
pub(crate) async fn pod(runtime: &dyn Runtime, uid: &str) -> Result<PodObserved, cri::Error> {
    let labels = HashMap::from([(LABEL_POD_UID.to_owned(), uid.to_owned())]);
    let (sandboxes, containers) =
        tokio::try_join!(runtime.list_sandboxes(labels.clone()), runtime.list_containers(labels))?;
    let mut observed = PodObserved::default();
    for listed in sandboxes {
        match runtime.sandbox_status(&listed.id).await {
            Ok(status) => observed.sandboxes.push(sandbox(&status)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for listed in containers {
        match runtime.container_status(&listed.id).await {
            Ok(status) => observed.containers.push(with_message(&status, &listed.pod_sandbox_id)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    observed.sort();
    Ok(observed)
}

fn with_message(status: &v1::ContainerStatus, sandbox_id: &str) -> Observed {
    let mut observed = container(status, sandbox_id);
    if observed.state != State::Exited {
        return observed;
    }
    let message = termination_message(status, &observed);
    if !message.is_empty() {
        if !observed.message.is_empty() {
            observed.message.push_str(": ");
        }
        observed.message.push_str(&message);
    }
    observed
}

/// What the container wrote about its end; the end of its log when it wrote nothing, failed and its policy says so.
fn termination_message(status: &v1::ContainerStatus, observed: &Observed) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(ANNOTATION_MESSAGE_PATH);
    let mount = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    let written = mount.map(|mount| last_bytes(Path::new(&mount.host_path))).unwrap_or_default();
    let fall_back = annotation(ANNOTATION_MESSAGE_POLICY) == "FallbackToLogsOnError"
        && observed.exit_code != 0
        && observed.reason != "ContainerCannotRun";
    if written.is_empty() && fall_back {
        return logs::last_lines(Path::new(&status.log_path), MAX_LOG_LINES, MAX_LOG_BYTES);
    }
    written
}

fn last_bytes(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        use std::os::unix::fs::OpenOptionsExt as _;
        // A volume may lie where the message is expected, with anything in it: neither wait for a pipe nor follow a link.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let length = metadata.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_MESSAGE_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MAX_MESSAGE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_read_from_plain_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("plain"), "x".repeat(5000)).unwrap();
        assert_eq!(last_bytes(&at("plain")).len(), 4096);
        assert_eq!(last_bytes(&at("absent")), "");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        for name in ["pipe", "link"] {
            assert!(last_bytes(&at(name)).starts_with("Error on reading termination log"), "{name}");
        }
    }
}
