//! Lifecycle hooks: a command, a request, a connection, or a wait.

use std::time::Duration;

use cri::Runtime;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probe::dial;

/// Requests and connections of hooks take no longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// # Errors
/// What went wrong, for the container's status.
pub(super) async fn run(
    runtime: &dyn Runtime,
    hook: &LifecycleHandler,
    id: &str,
    container: &Container,
    ip: Option<&str>,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = runtime.exec_sync(id, command.clone(), Duration::ZERO).await.map_err(|error| error.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
        return Err(format!(
            "Exec lifecycle hook ([{}]) for Container {:?} failed - error: command '{}' exited with {}: {}, message: {output:?}",
            command.join(" "),
            container.name,
            command.join(" "),
            answer.exit_code,
            output.trim_end(),
        ));
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    if let Some(get) = &hook.http_get {
        let target = dial::http_target(get, container, ip)?;
        let answer = dial::get(&target, TIMEOUT).await?;
        return if answer.status < 400 {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", answer.status))
        };
    }
    if let Some(socket) = &hook.tcp_socket {
        let (host, port) = dial::tcp_target(socket, container, ip)?;
        return dial::connect(&host, port, TIMEOUT).await.map(drop);
    }
    Ok(())
}
