//! One check of one container.

use std::time::Duration;

use cri::Runtime;
use k8s_openapi::api::core::v1::{Container, GRPCAction, Probe};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::dial;
use crate::backoff::go_duration;
use crate::plan::ProbeResult;
use crate::spec::expand::expand;

/// Output of a command that goes into an event.
const MAX_OUTPUT_BYTES: usize = 10 * 1024;

pub(super) enum Outcome {
    Success,
    Warning(String),
    Failure(String),
    /// The check could not be made.
    Unknown(String),
}

impl Outcome {
    /// What it says about the container. A check that could not be made says nothing: containers must not be restarted
    /// because the runtime was, and could not run their commands in between.
    pub(super) fn result(&self) -> Option<ProbeResult> {
        match self {
            Self::Success | Self::Warning(_) => Some(ProbeResult::Success),
            Self::Failure(_) => Some(ProbeResult::Failure),
            Self::Unknown(_) => None,
        }
    }
}

pub(super) struct Target<'a> {
    pub runtime: &'a dyn Runtime,
    pub container: &'a Container,
    pub container_id: &'a str,
    pub pod_ip: Option<&'a str>,
}

pub(super) async fn run(target: &Target<'_>, probe: &Probe) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
    if let Some(exec) = &probe.exec {
        return run_command(target, exec.command.as_deref().unwrap_or_default(), timeout).await;
    }
    if let Some(get) = &probe.http_get {
        return match dial::http_target(get, target.container, target.pod_ip) {
            Ok(http) => request(&http, timeout).await,
            Err(error) => Outcome::Unknown(error),
        };
    }
    if let Some(socket) = &probe.tcp_socket {
        return match dial::tcp_target(socket, target.container, target.pod_ip) {
            Ok((host, port)) => match dial::connect(&host, port, timeout).await {
                Ok(_) => Outcome::Success,
                Err(error) => Outcome::Failure(error),
            },
            Err(error) => Outcome::Unknown(error),
        };
    }
    if let Some(action) = &probe.grpc {
        return health(target, action, timeout).await;
    }
    Outcome::Unknown(format!("missing probe handler for container {}", target.container.name))
}

async fn run_command(target: &Target<'_>, command: &[String], timeout: Duration) -> Outcome {
    let env = target.container.env.as_deref().unwrap_or_default();
    let lookup =
        |name: &str| env.iter().find(|e| e.name == name && e.value_from.is_none()).and_then(|e| e.value.clone());
    let command: Vec<String> = command.iter().map(|word| expand(word, &lookup)).collect();
    match target.runtime.exec_sync(target.container_id, command, timeout).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = [answer.stdout, answer.stderr].concat();
            output.truncate(MAX_OUTPUT_BYTES);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.is_deadline() => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}",
            error.description(),
            go_duration(timeout)
        )),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

async fn request(http: &dial::HttpTarget, timeout: Duration) -> Outcome {
    match dial::get(http, timeout).await {
        Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
        Ok(answer) if (300..400).contains(&answer.status) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
        }
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(error),
    }
}

async fn health(target: &Target<'_>, action: &GRPCAction, timeout: Duration) -> Outcome {
    let address = dial::join(target.pod_ip.unwrap_or_default(), u16::try_from(action.port).unwrap_or(0));
    let within = go_duration(timeout);
    let call = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("error: failed to connect service at {address:?}: {error}"))?;
        let channel = endpoint.user_agent(dial::USER_AGENT).map_err(|error| error.to_string())?.connect().await;
        let channel = channel.map_err(|error| format!("error: failed to connect service at {address:?}: {error}"))?;
        let request = HealthCheckRequest { service: action.service.clone().unwrap_or_default() };
        let answer = HealthClient::new(channel).check(request).await;
        Ok::<_, String>(answer)
    };
    match tokio::time::timeout(timeout, call).await {
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {within}: context deadline exceeded"
        )),
        Ok(Err(message)) => Outcome::Failure(message),
        Ok(Ok(Err(status))) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Ok(Err(status))) => Outcome::Failure(format!("error: health rpc probe failed: {}", status.message())),
        Ok(Ok(Ok(answer))) => match answer.into_inner().status() {
            ServingStatus::Serving => Outcome::Success,
            other => Outcome::Failure(format!("service unhealthy (responded with {:?})", other.as_str_name())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_checked_says_nothing() {
        for (outcome, expected) in [
            (Outcome::Success, Some(ProbeResult::Success)),
            (Outcome::Warning(String::new()), Some(ProbeResult::Success)),
            (Outcome::Failure(String::new()), Some(ProbeResult::Failure)),
            (Outcome::Unknown(String::new()), None),
        ] {
            assert_eq!(outcome.result(), expected);
        }
    }
}
