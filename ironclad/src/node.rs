//! A node: containerd, the binary's own image, and the three agents that make a host part of a cluster.
//!
//! ```text
//! containerd -> credentials -> kubelet, proxy -> overlay   (each its own identity, each supervised)
//!            -> own image ------------------/
//! ```

pub(crate) mod args;
pub(crate) mod containerd;
pub(crate) mod credentials;
pub(crate) mod images;
pub(crate) mod join;
mod kernel;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use cri::Containerd;
use daemon::{Drain, Tasks};
use pki::Credential;
use tracing::{info, warn};

pub(crate) use self::args::{NodeArgs, Settings};
use self::containerd::Runtime;
use self::credentials::NodeCredentials;
use crate::client;
use crate::paths::pair;

/// The search path of everything that runs on a node.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long the agents may take to end.
const JOIN: Duration = Duration::from_secs(15);

/// How often the certificates' dates are looked at.
const RENEWAL_CHECK: Duration = Duration::from_secs(600);

/// How often the API server is asked whether it is ready, and every how many times that is logged.
const SERVER_POLL: Duration = Duration::from_millis(50);
const SERVER_NOTICE: u32 = 200;

/// Parses a component's own flags, so that a part of this program is configured exactly like the component alone.
#[derive(Parser)]
#[command(no_binary_name = true)]
pub(crate) struct Flags<A: clap::Args> {
    #[command(flatten)]
    pub(crate) args: A,
}

/// The component's arguments from flags.
pub(crate) fn flags<A: clap::Args>(component: &str, list: &[String]) -> Result<A> {
    let parsed = Flags::<A>::try_parse_from(list);
    parsed.map(|flags| flags.args).with_context(|| format!("cannot use the flags of {component}: {list:?}"))
}

/// Runs a node until the drain. Its parts start anew when its certificates have been renewed; pods do not notice.
pub(crate) async fn run(settings: Settings, drain: Drain) -> Result<()> {
    kernel::apply();
    let tasks = Tasks::new(drain.clone());
    let runtime = Runtime::start(&settings, &tasks)?;
    while !drain.is_draining() {
        if let Some(outcome) = drain.run(prepare(&settings, &runtime)).await {
            let (runtime, credentials) = outcome?;
            serve(&settings, &runtime, &credentials, &drain).await?;
        }
    }
    Ok(tasks.join(JOIN).await?)
}

/// Everything that the agents need to be there.
async fn prepare(settings: &Settings, runtime: &Runtime) -> Result<(Containerd, NodeCredentials)> {
    let runtime = runtime.ready().await?;
    if !NodeCredentials::present(&settings.paths) {
        join::run(settings).await?;
    }
    let credentials = NodeCredentials::load(&settings.paths)?;
    server_ready(settings, &credentials).await?;
    Ok((runtime, credentials))
}

/// Runs the agents until the drain, or until they need new certificates and have got them.
async fn serve(settings: &Settings, runtime: &Containerd, credentials: &NodeCredentials, drain: &Drain) -> Result<()> {
    let (stop, local) = drain.child();
    let tasks = Tasks::new(local);
    start_agents(settings, credentials, &tasks).await?;
    // The node registers and gets its subnet meanwhile. It is not ready before the network's configuration is there, which
    // waits for the image that pods start from.
    let imported = drain.run(images::import_own(runtime, &settings.paths)).await;
    if let Some(imported) = imported {
        imported?;
        start_overlay(settings, credentials, &tasks).await?;
        drain.run(renewal(settings, credentials)).await;
    }
    stop.start();
    Ok(tasks.join(JOIN).await?)
}

/// Returns when new certificates are on disk. A failure is tried again: a fifth of their life is left for it.
async fn renewal(settings: &Settings, credentials: &NodeCredentials) {
    loop {
        tokio::time::sleep(RENEWAL_CHECK).await;
        if !credentials.are_due(daemon::clock::now()) {
            continue;
        }
        match join::renew(settings, credentials).await {
            Ok(()) => return,
            Err(error) => warn!("cannot renew the node's certificates yet: {error:#}"),
        }
    }
}

/// Waits for the API server: agents that start before it would wait for their own growing delays.
async fn server_ready(settings: &Settings, credentials: &NodeCredentials) -> Result<()> {
    let client = connect(settings, credentials, &credentials.kubelet).await?;
    let mut attempts = 0_u32;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a plain request");
        let Err(error) = client.request_text(request).await else {
            return Ok(());
        };
        if attempts.is_multiple_of(SERVER_NOTICE) {
            let error = &error as &(dyn std::error::Error + 'static);
            info!(server = settings.server, error, "waiting for the API server");
        }
        attempts += 1;
        tokio::time::sleep(SERVER_POLL).await;
    }
}

async fn start_agents(settings: &Settings, credentials: &NodeCredentials, tasks: &Tasks) -> Result<()> {
    let drain = tasks.drain().clone();
    let config = flags::<kubelet::Args>("kubelet", &kubelet_flags(settings))?.config()?;
    let client = connect(settings, credentials, &credentials.kubelet).await?;
    let stop = drain.clone();
    tasks.supervise("kubelet", move || kubelet::run(config.clone(), client.clone(), stop.clone()));

    let config = proxy::Config::new(&settings.name, flags("proxy", &proxy_flags(settings))?);
    let client = connect(settings, credentials, &credentials.proxy).await?;
    tasks.supervise("proxy", move || proxy::run(config.clone(), client.clone(), drain.clone()));
    info!(node = settings.name, server = settings.server, "the node's agents are started");
    Ok(())
}

async fn start_overlay(settings: &Settings, credentials: &NodeCredentials, tasks: &Tasks) -> Result<()> {
    let drain = tasks.drain().clone();
    let config = overlay::Config::new(&settings.name, flags("overlay", &overlay_flags(settings))?);
    let client = connect(settings, credentials, &credentials.overlay).await?;
    tasks.supervise("overlay", move || overlay::run(config.clone(), client.clone(), drain.clone()));
    Ok(())
}

async fn connect(settings: &Settings, credentials: &NodeCredentials, own: &Credential) -> Result<kube::Client> {
    client::connect(client::config(&settings.server, &credentials.ca_pem, own).await?)
}

fn kubelet_flags(settings: &Settings) -> Vec<String> {
    let (certificate, key) = pair(&settings.paths.pki(), "kubelet-serving");
    let mut list = vec![
        format!("--hostname-override={}", settings.name),
        format!("--node-ip={}", settings.address),
        format!("--container-runtime-endpoint=unix://{}", settings.socket.display()),
        format!("--cluster-dns={}", settings.cluster_dns),
        format!("--cluster-domain={}", settings.cluster_domain),
        format!("--tls-cert-file={}", certificate.display()),
        format!("--tls-private-key-file={}", key.display()),
        format!("--client-ca-file={}", settings.paths.ca().display()),
        format!("--pod-manifest-path={}", settings.manifests.display()),
    ];
    list.extend(settings.kubelet_args.iter().map(|arg| format!("--{arg}")));
    list
}

fn overlay_flags(settings: &Settings) -> Vec<String> {
    vec![format!("--cluster-cidr={}", settings.cluster_cidr), format!("--public-ip={}", settings.address)]
}

fn proxy_flags(settings: &Settings) -> Vec<String> {
    let mut list = vec![format!("--cluster-cidr={}", settings.cluster_cidr)];
    list.extend(settings.proxy_args.iter().map(|arg| format!("--{arg}")));
    list
}
