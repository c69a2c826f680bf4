//! Under which identity a controller speaks to the API.

mod token;

use std::sync::Arc;

use kube::{Client, Config, client::Body};
use tower::BoxError;

use self::token::Tokens;

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

/// Each controller has the tokens of its own service account, which is made when it is missing, as upstream with
/// `--use-service-account-credentials`. The process must be allowed to request them.
pub struct ServiceAccounts {
    /// How to reach the API, without credentials: the connections of all controllers.
    anonymous: Client,
    process: Client,
}

impl ServiceAccounts {
    /// From the configuration of the process's own client.
    ///
    /// # Errors
    /// When no client can be made of it.
    pub fn new(config: Config) -> kube::Result<Self> {
        let process = reconcile::connect(config.clone())?;
        let mut anonymous = config;
        anonymous.auth_info = kube::config::AuthInfo::default();
        Ok(Self { anonymous: reconcile::connect(anonymous)?, process })
    }
}

impl Clients for ServiceAccounts {
    fn process(&self) -> Client {
        self.process.clone()
    }

    fn of(&self, controller: &str) -> Client {
        let tokens = Arc::new(Tokens::new(self.process.clone(), controller));
        let anonymous = self.anonymous.clone();
        let send = move |request: http::Request<Body>| {
            let (tokens, anonymous) = (tokens.clone(), anonymous.clone());
            async move { Ok::<_, BoxError>(anonymous.send(tokens.authorize(request).await?).await?) }
        };
        Client::new(tower::service_fn(send), self.process.default_namespace())
    }
}
