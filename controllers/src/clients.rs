//! Under which identity a controller speaks to the API.

use kube::Client;

/// Makes the clients of the controller manager.
pub trait Clients: Send + Sync {
    /// The client of the process (`system:kube-controller-manager`): leader election and shared informers.
    fn process(&self) -> Client;

    /// The client of one controller: service account `controller` in namespace `kube-system`.
    fn of(&self, controller: &str) -> Client;
}

/// Everything under one identity, as upstream without `--use-service-account-credentials`.
impl Clients for Client {
    fn process(&self) -> Client {
        self.clone()
    }

    fn of(&self, _controller: &str) -> Client {
        self.clone()
    }
}

/// Each controller impersonates its service account; the process must be allowed to.
pub struct Impersonation {
    config: kube::Config,
    process: Client,
}

impl Impersonation {
    /// From the configuration of the process's own client.
    ///
    /// # Errors
    /// When no client can be made of it.
    pub fn new(config: kube::Config) -> kube::Result<Self> {
        let process = Client::try_from(config.clone())?;
        Ok(Self { config, process })
    }
}

impl Clients for Impersonation {
    fn process(&self) -> Client {
        self.process.clone()
    }

    fn of(&self, controller: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:kube-system:{controller}"));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        config.auth_info.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
        Client::try_from(config).expect("the same configuration made the process's client")
    }
}
