//! The parts of the control plane, wired.
//!
//! ```text
//! identities -> API server -+- handed-in sockets and the port
//!                           +- in-process clients: controllers, scheduler, add-ons, approver
//! ```
//! Each part is configured with upstream's own flags, so that it runs here as it would alone.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::request::User;
use apiserver::{Clients, Listen, Server};
use daemon::Tasks;
use pki::{BootstrapToken, Kubeconfig, UserAuth};

use super::certificates::{self, Reserved};
use super::identities::{self, Identities, Names};
use super::role;
use crate::addons;
use crate::node::flags;
use crate::paths::{ServerPaths, pair};

/// How long the parts may take to end.
const JOIN: Duration = Duration::from_secs(20);

/// How often the server is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(20);

const AUTHENTICATED: &str = "system:authenticated";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// The name of this cluster's own entries in kubeconfig files that it writes.
const CONTEXT: &str = "ironclad";

/// A control plane, complete.
pub(crate) struct Settings {
    pub(crate) paths: ServerPaths,
    pub(crate) node_name: String,
    pub(crate) node_address: IpAddr,
    pub(crate) advertise_address: IpAddr,
    pub(crate) port: u16,
    /// Handed-in listening sockets, served beside the port.
    pub(crate) sockets: Vec<TcpListener>,
    /// Further names in the serving certificate.
    pub(crate) names: Vec<String>,
    pub(crate) service_range: ipnet::IpNet,
    pub(crate) cluster_range: ipnet::IpNet,
    pub(crate) cluster_dns: IpAddr,
    pub(crate) domain: String,
    pub(crate) etcd_servers: Vec<String>,
    pub(crate) dns_replicas: u32,
}

impl Settings {
    fn url(&self, host: IpAddr) -> String {
        format!("https://{}", std::net::SocketAddr::new(host, self.port))
    }
}

/// Runs until the drain.
pub(crate) async fn run(mut settings: Settings, tasks: Tasks) -> Result<()> {
    let sockets = std::mem::take(&mut settings.sockets);
    let settings = Arc::new(settings);
    let identities = Identities::ensure(&settings.paths, &names(&settings))?;
    write_kubeconfig(&settings, &identities)?;
    let config = flags::<apiserver::Args>("apiserver", &apiserver_flags(&settings))?;
    let mut config = config.into_config().await.context("cannot configure the API server")?;
    config.serving = identities.serving.clone();
    config.listen.extend(sockets.into_iter().map(Listen::Given));
    let server = Server::start(config, tasks.drain().clone()).await.context("cannot start the API server")?;
    let clients = server.clients();
    let parts = async {
        // Before its first roles exist, the server refuses the parts, and they would wait for their own growing delays.
        if tasks.drain().run(ready(&clients)).await.is_some() {
            start_parts(&settings, &identities, &clients, &tasks)?;
        }
        anyhow::Ok(())
    };
    let (served, started) = futures::future::join(server.serve(), parts).await;
    started?;
    served?;
    Ok(tasks.join(JOIN).await?)
}

/// Waits until the server says that it is ready.
async fn ready(clients: &Clients) {
    let client = clients.client(apiserver::system());
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a plain request");
        if client.request_text(request).await.is_ok() {
            return;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

fn start_parts(settings: &Arc<Settings>, identities: &Identities, clients: &Clients, tasks: &Tasks) -> Result<()> {
    let drain = tasks.drain().clone();
    let candidate = format!("{}_ironclad", settings.node_name);

    let config = flags::<controllers::Args>("controller-manager", &controller_flags(settings))?;
    let config = config.into_config(candidate.clone()).context("cannot configure the controllers")?;
    let identified: Arc<dyn controllers::Clients> = Arc::new(ControllerClients(clients.clone()));
    let stop = drain.clone();
    tasks.supervise("controller-manager", move || controllers::run(config.clone(), identified.clone(), stop.clone()));

    let client = clients.client(user(SCHEDULER, &[]));
    let stop = drain.clone();
    tasks.supervise("scheduler", move || {
        let (candidate, client, stop) = (candidate.clone(), client.clone(), stop.clone());
        async move {
            let config = scheduler::Config::new(flags("scheduler", &[])?, candidate)?;
            anyhow::Ok(scheduler::run(config, client, stop).await?)
        }
    });

    let client = clients.client(user(CONTROLLER_MANAGER, &["system:masters"]));
    let reserved = Reserved {
        ranges: vec![settings.service_range, settings.cluster_range],
        addresses: vec![settings.advertise_address, settings.node_address],
    };
    let stop = drain.clone();
    tasks.supervise("node-certificate-approver", move || {
        certificates::run(client.clone(), reserved.clone(), stop.clone())
    });

    let client = clients.client(user("system:ironclad-addons", &["system:masters"]));
    let (labeller, node, stop) = (client.clone(), settings.node_name.clone(), drain.clone());
    tasks.supervise("role", move || role::run(labeller.clone(), node.clone(), stop.clone()));
    let wanted = addon_settings(settings, identities)?;
    tasks.supervise("addons", move || {
        let (client, wanted, drain) = (client.clone(), wanted.clone(), drain.clone());
        async move {
            addons::apply(&client, &wanted).await?;
            drain.cancelled().await;
            anyhow::Ok(())
        }
    });
    Ok(())
}

/// Each controller as its own service account, as upstream with `--use-service-account-credentials`.
struct ControllerClients(Clients);

impl controllers::Clients for ControllerClients {
    fn process(&self) -> kube::Client {
        self.0.client(user(CONTROLLER_MANAGER, &[]))
    }

    fn of(&self, controller: &str) -> kube::Client {
        let name = format!("system:serviceaccount:kube-system:{controller}");
        self.0.client(user(&name, &["system:serviceaccounts", "system:serviceaccounts:kube-system"]))
    }
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().chain(&[AUTHENTICATED]).map(|&group| group.to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::default() }
}

fn names(settings: &Settings) -> Names {
    let first_service = match settings.service_range {
        ipnet::IpNet::V4(range) => IpAddr::V4((u32::from(range.network()) + 1).into()),
        ipnet::IpNet::V6(range) => IpAddr::V6((u128::from(range.network()) + 1).into()),
    };
    Names {
        host_name: settings.node_name.clone(),
        addresses: vec![settings.advertise_address, settings.node_address, first_service],
        extra: settings.names.clone(),
        domain: settings.domain.clone(),
    }
}

/// The first user's access, for this host.
fn write_kubeconfig(settings: &Settings, identities: &Identities) -> Result<()> {
    let url = settings.url(IpAddr::from([127, 0, 0, 1]));
    let kubeconfig = identities::admin_kubeconfig(CONTEXT, &url, &identities.authority, &identities.admin);
    Ok(pki::write_private(&settings.paths.admin_kubeconfig(), &kubeconfig.to_yaml())?)
}

fn apiserver_flags(settings: &Settings) -> Vec<String> {
    let pki = settings.paths.pki();
    let file = |name: &str| pki.join(name).display().to_string();
    let (certificate, key) = pair(&pki, "apiserver-kubelet-client");
    let mut flags = vec![
        format!("--advertise-address={}", settings.advertise_address),
        format!("--secure-port={}", settings.port),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--enable-bootstrap-token-auth=true".to_owned(),
        format!("--service-account-issuer=https://kubernetes.default.svc.{}", settings.domain),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-account-key-file={}", file("sa.key")),
        format!("--service-cluster-ip-range={}", settings.service_range),
        format!("--kubelet-client-certificate={}", certificate.display()),
        format!("--kubelet-client-key={}", key.display()),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        // Nothing here resolves the names of other nodes.
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
        format!("--data-dir={}", settings.paths.store().display()),
    ];
    if !settings.etcd_servers.is_empty() {
        flags.push(format!("--etcd-servers={}", settings.etcd_servers.join(",")));
    }
    flags
}

fn controller_flags(settings: &Settings) -> Vec<String> {
    let pki = settings.paths.pki();
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        // The two that upstream leaves off unless nodes join with tokens.
        "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={}", settings.cluster_range),
        format!("--service-cluster-ip-range={}", settings.service_range),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
    ]
}

fn addon_settings(settings: &Settings, identities: &Identities) -> Result<addons::Settings> {
    let path = settings.paths.join_token();
    if !path.exists() {
        pki::write_private(&path, &BootstrapToken::generate().to_string())?;
    }
    let join_token = pki::read(&path)?.trim().parse().with_context(|| format!("{} is not usable", path.display()))?;
    let cluster_info = Kubeconfig {
        cluster: String::new(),
        user: String::new(),
        server: settings.url(settings.advertise_address),
        ca_pem: identities.authority.certificate_pem().to_owned(),
        auth: UserAuth::Token(String::new()),
    };
    Ok(addons::Settings {
        dns_address: settings.cluster_dns.to_string(),
        domain: settings.domain.clone(),
        dns_replicas: settings.dns_replicas,
        cluster_info: cluster_info.without_user(),
        join_token,
    })
}
