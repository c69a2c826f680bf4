//! What is made under a lease is kept from garbage collection until the lease goes.

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{CreateRequest, DeleteRequest};
use tonic::Request;

use super::{Containerd, namespaced};
use crate::Error;

#[derive(Debug, Clone)]
pub(super) struct Lease(String);

impl Lease {
    /// `purpose` is for who reads the list of leases.
    pub(super) async fn create(containerd: &Containerd, purpose: &str) -> Result<Self, Error> {
        let lease = format!("{purpose}-{}", uuid::Uuid::new_v4());
        let create = namespaced(CreateRequest { id: lease.clone(), ..Default::default() });
        let made = LeasesClient::new(containerd.channel()).create(create).await;
        made.map_err(|status| Error::rpc("create lease", &status))?;
        Ok(Self(lease))
    }

    /// A lease that stays behind only delays garbage collection: a failure is nobody's concern.
    pub(super) async fn delete(self, containerd: &Containerd) {
        let delete = namespaced(DeleteRequest { id: self.0, sync: false });
        let _ = LeasesClient::new(containerd.channel()).delete(delete).await;
    }

    /// A request in CRI's namespace under this lease.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let mut request = namespaced(message);
        let lease = self.0.parse().map_err(|_| Error::Archive(format!("bad lease id {}", self.0)))?;
        request.metadata_mut().insert("containerd-lease", lease);
        Ok(request)
    }
}
