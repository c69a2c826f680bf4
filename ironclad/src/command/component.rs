//! Parts of a cluster as processes of their own: with upstream's flags, against any API server.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use daemon::Drain;

use crate::{client, environment};

/// Who this process is to the API server.
#[derive(clap::Args)]
pub(super) struct ClientArgs {
    /// A kubeconfig file; the pod's own service account when absent
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

impl ClientArgs {
    async fn config(&self) -> Result<kube::Config> {
        match &self.kubeconfig {
            Some(path) => client::from_file(path).await,
            None => kube::Config::incluster().context("not in a pod: give --kubeconfig"),
        }
    }

    async fn client(&self) -> Result<kube::Client> {
        client::connect(self.config().await?)
    }
}

/// `ironclad apiserver`
#[derive(clap::Args)]
pub(super) struct ApiServer {
    #[command(flatten)]
    args: apiserver::Args,
}

/// `ironclad controller-manager`
#[derive(clap::Args)]
pub(super) struct ControllerManager {
    #[command(flatten)]
    args: controllers::Args,
    #[command(flatten)]
    client: ClientArgs,
}

/// `ironclad scheduler`
#[derive(clap::Args)]
pub(super) struct Scheduler {
    #[command(flatten)]
    args: scheduler::Args,
    #[command(flatten)]
    client: ClientArgs,
}

/// `ironclad kubelet`
#[derive(clap::Args)]
pub(super) struct Kubelet {
    #[command(flatten)]
    args: kubelet::Args,
    #[command(flatten)]
    client: ClientArgs,
}

/// `ironclad proxy`
#[derive(clap::Args)]
pub(super) struct Proxy {
    #[command(flatten)]
    args: proxy::Args,
    /// Name of the node; the host's name when absent
    #[arg(long)]
    hostname_override: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `ironclad dns`
#[derive(clap::Args)]
pub(super) struct Dns {
    #[command(flatten)]
    args: dns::Args,
    #[command(flatten)]
    client: ClientArgs,
}

/// `ironclad etcd`
#[derive(clap::Args)]
pub(super) struct Etcd {
    #[command(flatten)]
    args: etcd::Args,
}

fn drain() -> Result<Drain> {
    daemon::signals::drain().context("cannot install signal handlers")
}

/// A name for leader elections: the host's name and something that two processes of a host do not share.
fn candidate() -> Result<String> {
    Ok(format!("{}_{}", environment::host_name()?, std::process::id()))
}

impl ApiServer {
    pub(super) async fn run(self) -> Result<()> {
        let mut config = self.args.into_config().await?;
        let handed_in = environment::handed_in()?.into_iter();
        config.listen.extend(handed_in.map(|(_, listener)| apiserver::Listen::Given(listener)));
        Ok(apiserver::run(config, drain()?).await?)
    }
}

impl ControllerManager {
    pub(super) async fn run(self) -> Result<()> {
        let separate = self.args.use_service_account_credentials;
        let config = self.client.config().await?;
        let clients: Arc<dyn controllers::Clients> = if separate {
            Arc::new(controllers::ServiceAccounts::new(config)?)
        } else {
            Arc::new(client::connect(config)?)
        };
        Ok(controllers::run(self.args.into_config(candidate()?)?, clients, drain()?).await?)
    }
}

impl Scheduler {
    pub(super) async fn run(self) -> Result<()> {
        let config = scheduler::Config::new(self.args, candidate()?)?;
        Ok(scheduler::run(config, self.client.client().await?, drain()?).await?)
    }
}

impl Kubelet {
    pub(super) async fn run(self) -> Result<()> {
        Ok(kubelet::run(self.args.config()?, self.client.client().await?, drain()?).await?)
    }
}

impl Proxy {
    pub(super) async fn run(self) -> Result<()> {
        let name = self.hostname_override.map_or_else(environment::host_name, Ok)?;
        let config = proxy::Config::new(name, self.args);
        Ok(proxy::run(config, self.client.client().await?, drain()?).await?)
    }
}

impl Dns {
    pub(super) async fn run(self) -> Result<()> {
        Ok(dns::run(dns::Config::new(self.args)?, self.client.client().await?, drain()?).await?)
    }
}

impl Etcd {
    pub(super) async fn run(self) -> Result<()> {
        Ok(etcd::run(self.args.config()?, drain()?).await?)
    }
}
