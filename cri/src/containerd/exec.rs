//! Exec through containerd's task service.
//!
//! CRI's own exec hands out a URL whose WebSocket form cannot half close stdin, which `tar x` through exec
//! needs. The task service takes named pipes and closes them when told to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, GetContainerRequest, KillRequest, ResizePtyRequest,
    StartRequest, WaitRequest,
};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tonic::transport::Channel;

use super::{Containerd, namespaced};
use crate::{ByteReader, Error, ExecRequest, Process, ProcessControl};

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const SIGKILL: u32 = 9;
/// The shim opens its end of stdin's pipe after the process started; until then ours cannot open.
const STDIN_OPENS_WITHIN: Duration = Duration::from_secs(10);
const STDIN_POLL: Duration = Duration::from_millis(2);

struct Pipes {
    directory: PathBuf,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    stderr: Option<PathBuf>,
}

struct Control {
    tasks: TasksClient<Channel>,
    container_id: String,
    exec_id: String,
    /// Removed when the control goes: nothing else looks at the pipes by name.
    pipes: Pipes,
}

pub(super) async fn start(containerd: &Containerd, request: ExecRequest) -> Result<Process, Error> {
    let exec_id = uuid::Uuid::new_v4().simple().to_string();
    let spec = process_spec(containerd, &request).await?;
    let pipes = Pipes::make(containerd.pipes(), &exec_id, &request)?;
    let stdout = open_reader(pipes.stdout.as_deref())?;
    let stderr = open_reader(pipes.stderr.as_deref())?;
    let mut tasks = TasksClient::new(containerd.channel());
    let exec = ExecProcessRequest {
        container_id: request.container_id.clone(),
        stdin: text(pipes.stdin.as_deref()),
        stdout: text(pipes.stdout.as_deref()),
        stderr: text(pipes.stderr.as_deref()),
        terminal: request.tty,
        spec: Some(prost_types::Any { type_url: PROCESS_TYPE.into(), value: spec.to_string().into_bytes() }),
        exec_id: exec_id.clone(),
    };
    tasks.exec(namespaced(exec)).await.map_err(|status| Error::rpc("exec", &status))?;
    let mut control = Control { tasks, container_id: request.container_id, exec_id, pipes };
    if let Err(error) = control.begin().await {
        control.delete().await;
        return Err(error);
    }
    let stdin = match control.pipes.stdin.as_deref() {
        Some(path) => Some(open_writer(path).await?),
        None => None,
    };
    Ok(Process { stdin: stdin.map(|sender| Box::new(sender) as _), stdout, stderr, control: Box::new(control) })
}

/// The container's own process with another command line: user, environment, directory, capabilities stay.
async fn process_spec(containerd: &Containerd, request: &ExecRequest) -> Result<Value, Error> {
    let get = namespaced(GetContainerRequest { id: request.container_id.clone() });
    let answer = ContainersClient::new(containerd.channel()).get(get).await;
    let container = answer.map_err(|status| Error::rpc("get container", &status))?.into_inner().container;
    let missing = || Error::Incomplete { operation: "get container", missing: "spec" };
    let spec = container.and_then(|c| c.spec).ok_or_else(missing)?;
    let spec: Value = serde_json::from_slice(&spec.value).map_err(|_| missing())?;
    let mut process = spec.get("process").cloned().ok_or_else(missing)?;
    process["args"] = json!(request.command);
    process["terminal"] = json!(request.tty);
    if request.tty {
        add_term(&mut process);
    }
    Ok(process)
}

fn add_term(process: &mut Value) {
    let environment = process["env"].as_array().cloned().unwrap_or_default();
    let has_term = environment.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM=")));
    if !has_term {
        let mut environment = environment;
        environment.push(json!("TERM=xterm"));
        process["env"] = Value::Array(environment);
    }
}

impl Pipes {
    fn make(parent: &Path, exec_id: &str, request: &ExecRequest) -> Result<Self, Error> {
        let directory = parent.join(exec_id);
        std::fs::create_dir_all(&directory)
            .map_err(|source| Error::io(format!("make directory {}", directory.display()), source))?;
        let pipe = |wanted: bool, name: &str| -> Result<Option<PathBuf>, Error> {
            if !wanted {
                return Ok(None);
            }
            let path = directory.join(name);
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|errno| Error::io(format!("make pipe {}", path.display()), errno.into()))?;
            Ok(Some(path))
        };
        let stdin = pipe(request.stdin, "stdin")?;
        let stdout = pipe(request.stdout, "stdout")?;
        // A terminal has one output.
        let stderr = pipe(request.stderr && !request.tty, "stderr")?;
        Ok(Self { directory, stdin, stdout, stderr })
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // Best effort: the directory is on a file system that a reboot clears.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Control {
    async fn begin(&mut self) -> Result<(), Error> {
        let start = StartRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        let answer = self.tasks.start(namespaced(start)).await;
        answer.map(drop).map_err(|status| Error::rpc("exec", &status))
    }

    async fn delete(&self) {
        let delete = DeleteProcessRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        // Gone already when the container ended meanwhile.
        let _ = self.tasks.clone().delete_process(namespaced(delete)).await;
    }
}

#[async_trait]
impl ProcessControl for Control {
    async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        let resize = ResizePtyRequest {
            container_id: self.container_id.clone(),
            exec_id: self.exec_id.clone(),
            width: u32::from(width),
            height: u32::from(height),
        };
        let answer = self.tasks.clone().resize_pty(namespaced(resize)).await;
        answer.map(drop).map_err(|status| Error::rpc("resize terminal", &status))
    }

    /// The shim holds a writing end of its own, so that the input outlives its first writer.
    async fn close_stdin(&self) -> Result<(), Error> {
        let close =
            CloseIoRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone(), stdin: true };
        let answer = self.tasks.clone().close_io(namespaced(close)).await;
        answer.map(drop).map_err(|status| Error::rpc("close stdin", &status))
    }

    async fn wait(&self) -> Result<i32, Error> {
        let wait = WaitRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        let answer = self.tasks.clone().wait(namespaced(wait)).await;
        let status = answer.map_err(|status| Error::rpc("wait for exec", &status))?.into_inner().exit_status;
        self.delete().await;
        Ok(i32::try_from(status).unwrap_or(i32::MAX))
    }

    async fn abandon(&self) {
        let kill = KillRequest {
            container_id: self.container_id.clone(),
            exec_id: self.exec_id.clone(),
            signal: SIGKILL,
            all: false,
        };
        if self.tasks.clone().kill(namespaced(kill)).await.is_ok() {
            let _ = self.wait().await;
        }
    }
}

fn text(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn open_reader(path: Option<&Path>) -> Result<Option<ByteReader>, Error> {
    let Some(path) = path else { return Ok(None) };
    let receiver = pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(|source| Error::io(format!("open pipe {}", path.display()), source))?;
    Ok(Some(Box::new(receiver)))
}

async fn open_writer(path: &Path) -> Result<pipe::Sender, Error> {
    let open = async {
        loop {
            match pipe::OpenOptions::new().open_sender(path) {
                Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => tokio::time::sleep(STDIN_POLL).await,
                outcome => return outcome,
            }
        }
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let opened = tokio::time::timeout(STDIN_OPENS_WITHIN, open).await.map_err(late);
    opened.and_then(|outcome| outcome).map_err(|source| Error::io(format!("open pipe {}", path.display()), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_a_type_unless_it_has_one() {
        let mut process = json!({"env": ["A=1"]});
        add_term(&mut process);
        assert_eq!(process["env"], json!(["A=1", "TERM=xterm"]));
        let mut process = json!({"env": ["TERM=vt100"]});
        add_term(&mut process);
        assert_eq!(process["env"], json!(["TERM=vt100"]));
    }
}
