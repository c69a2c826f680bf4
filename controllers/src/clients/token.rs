//! The token of one service account, requested when there is none and before it expires.

use http::{HeaderValue, Request, header::AUTHORIZATION};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams, client::Body};
use parking_lot::Mutex;
use tower::BoxError;

use crate::error::status_code;

const NAMESPACE: &str = "kube-system";
/// What is asked for; a new one is requested when a fifth is left.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);

pub(super) struct Tokens {
    process: Client,
    account: String,
    /// As a header's value, and until when it is used.
    current: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl Tokens {
    pub(super) fn new(process: Client, account: &str) -> Self {
        Self { process, account: account.to_owned(), current: Mutex::new(None) }
    }

    /// The request with the account's credentials.
    pub(super) async fn authorize(&self, mut request: Request<Body>) -> Result<Request<Body>, BoxError> {
        let value = match self.valid() {
            Some(value) => value,
            None => self.renew().await?,
        };
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(request)
    }

    fn valid(&self) -> Option<HeaderValue> {
        let current = self.current.lock();
        current.as_ref().filter(|(_, until)| daemon::clock::now() < *until).map(|(value, _)| value.clone())
    }

    async fn renew(&self) -> Result<HeaderValue, BoxError> {
        let granted = match self.request().await {
            Err(error) if status_code(&error) == Some(404) => {
                self.create_account().await?;
                self.request().await?
            }
            done => done?,
        };
        let status = granted.status.unwrap_or_default();
        let mut value = HeaderValue::try_from(format!("Bearer {}", status.token.unwrap_or_default()))?;
        value.set_sensitive(true);
        let now = daemon::clock::now();
        let lifetime = status.expiration_timestamp.map_or(LIFETIME, |expiry| expiry.0.duration_since(now));
        *self.current.lock() = Some((value.clone(), now + lifetime / 5 * 4));
        Ok(value)
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.process.clone(), NAMESPACE)
    }

    async fn request(&self) -> kube::Result<TokenRequest> {
        let spec = TokenRequestSpec { expiration_seconds: Some(LIFETIME.as_secs()), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        self.accounts().create_subresource("token", &self.account, &PostParams::default(), &request).await
    }

    async fn create_account(&self) -> kube::Result<()> {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(self.account.clone());
        account.metadata.namespace = Some(NAMESPACE.to_owned());
        match self.accounts().create(&PostParams::default(), &account).await {
            Err(error) if status_code(&error) == Some(409) => Ok(()),
            done => done.map(drop),
        }
    }
}
