//! What the parts of a node agent share.

use std::sync::Arc;

use cri::Runtime;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use reconcile::{Informer, Recorder};

use crate::backoff::Backoffs;
use crate::certificates::Certificates;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::images::Images;
use crate::node::{Machine, RuntimeState};
use crate::objects::Objects;
use crate::pods::Pods;
use crate::probe::Probes;
use crate::spec::dns::{Resolvers, parse};
use crate::spec::fields::{Addresses, Allocatable};
use crate::statuses::Statuses;
use crate::tokens::Tokens;
use crate::trust::TrustBundles;

pub(crate) struct Kubelet {
    pub config: Config,
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub recorder: Recorder,
    pub tasks: daemon::Tasks,
    pub objects: Objects,
    pub images: Images,
    pub tokens: Tokens,
    pub trust: TrustBundles,
    pub certificates: Certificates,
    pub cgroups: Cgroups,
    pub probes: Arc<Probes>,
    pub pods: Pods,
    pub statuses: Statuses,
    pub machine: Machine,
    /// The node's own object, when the API has told it.
    pub node: Informer<Node>,
    pub runtime_state: RuntimeState,
    /// Restarts of crashing containers, by `<pod uid>_<container>`.
    pub crashes: Backoffs,
}

impl Kubelet {
    pub(crate) fn host_ips(&self) -> Vec<String> {
        self.config.node_ips.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn addresses(&self, pod_ips: &[String]) -> Addresses {
        Addresses { pod_ips: pod_ips.to_vec(), host_ips: self.host_ips() }
    }

    pub(crate) fn allocatable(&self) -> Allocatable {
        let (milli_cpu, memory_bytes) = self.machine.allocatable(&self.config);
        Allocatable { milli_cpu, memory_bytes, ephemeral_bytes: self.machine.ephemeral_bytes(&self.config.root_dir) }
    }

    /// The host's file is read anew each time: it changes with the host's network.
    pub(crate) fn resolvers(&self) -> Resolvers {
        let host = self.config.resolv_conf.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        Resolvers {
            cluster_servers: self.config.cluster_dns.iter().map(ToString::to_string).collect(),
            cluster_domain: self.config.cluster_domain.clone(),
            host: host.map(|text| parse(&text)).unwrap_or_default(),
        }
    }
}
