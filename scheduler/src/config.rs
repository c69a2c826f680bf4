//! Flags and the `KubeSchedulerConfiguration` file.

mod file;

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    framework::Plugin,
    plugins::{self, Entry},
    queue::Delays,
};

/// The scheduler's flags, named as upstream's.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A KubeSchedulerConfiguration file; it wins over the flags that say the same
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Wait for the lease kube-system/kube-scheduler before deciding
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Where /healthz, /livez, /readyz and /metrics are served
    #[arg(long, default_value = "127.0.0.1:10259")]
    pub health_listen: SocketAddr,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a KubeSchedulerConfiguration.
    #[error("{path} is not a KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// It asks for something that is not there.
    #[error("{0}")]
    Invalid(String),
}

/// The scheduler's complete configuration.
pub struct Config {
    /// By scheduler name.
    pub(crate) profiles: HashMap<String, Profile>,
    pub(crate) delays: Delays,
    pub(crate) leader_elect: bool,
    pub(crate) health_listen: Option<SocketAddr>,
    pub(crate) identity: String,
}

/// One scheduler name's plug-ins.
pub(crate) struct Profile {
    pub(crate) name: String,
    plugins: Vec<Configured>,
    pub(crate) preempts: bool,
    /// 0 for what fits the cluster's size.
    pub(crate) percentage_of_nodes_to_score: usize,
}

struct Configured {
    entry: Entry,
    filters: bool,
    scores: bool,
}

const DEFAULT_NAME: &str = "default-scheduler";
const DELAYS: Delays = Delays { initial: Duration::from_secs(1), max: Duration::from_secs(10) };

impl Config {
    /// Reads the flags and the file that they name. `identity` is what the lease's holder is called.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(args: Args, identity: impl Into<String>) -> Result<Self, ConfigError> {
        let mut config = Self::standard(identity);
        config.leader_elect = args.leader_elect;
        config.health_listen = Some(args.health_listen);
        if let Some(path) = args.config {
            file::read(&path)?.apply(&mut config)?;
        }
        Ok(config)
    }

    /// Upstream's defaults, without a health port.
    pub fn standard(identity: impl Into<String>) -> Self {
        let profile = Profile::standard(DEFAULT_NAME);
        Self {
            profiles: HashMap::from([(profile.name.clone(), profile)]),
            delays: DELAYS,
            leader_elect: true,
            health_listen: None,
            identity: identity.into(),
        }
    }
}

impl Profile {
    /// Every plug-in, with upstream's weights.
    pub(crate) fn standard(name: &str) -> Self {
        let all = plugins::all().into_iter();
        let plugins = all.map(|entry| Configured { entry, filters: true, scores: true }).collect();
        Self { name: name.to_owned(), plugins, preempts: true, percentage_of_nodes_to_score: 0 }
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().filter(|c| c.filters).map(|c| &*c.entry.plugin)
    }

    pub(crate) fn scorers(&self) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        let scoring = self.plugins.iter().filter(|c| c.scores && c.entry.weight > 0);
        scoring.map(|c| (&*c.entry.plugin, c.entry.weight))
    }

    fn plugin(&mut self, name: &str) -> Option<&mut Configured> {
        self.plugins.iter_mut().find(|c| c.entry.plugin.name() == name)
    }
}

#[cfg(test)]
mod tests;
