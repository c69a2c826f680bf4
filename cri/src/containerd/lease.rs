//! What is made under a lease is kept from garbage collection until the lease goes.
//!
//! Whoever made a lease may end before it can delete it. Nothing else would: so a lease says until when it holds at
//! most, and one whose maker is known to be gone can be deleted by its name.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Request};

use super::{Containerd, namespaced};
use crate::Error;

/// Until when a lease holds, as an RFC 3339 time.
const EXPIRY_LABEL: &str = "containerd.io/gc.expire";
/// Far longer than any image takes to be laid out. containerd's own client gives as much.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Deadline of a look at all leases: a node agent waits for it when it starts.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a lease is for. Its name begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Import,
    Unpack,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Import => "ironclad-import-",
            Self::Unpack => "ironclad-unpack-",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Lease(String);

impl Lease {
    pub(super) async fn create(containerd: &Containerd, purpose: Purpose) -> Result<Self, Error> {
        let id = format!("{}{}", purpose.prefix(), uuid::Uuid::new_v4());
        let labels = labels(containerd.now());
        let create = namespaced(CreateRequest { id: id.clone(), labels });
        let made = LeasesClient::new(containerd.channel()).create(create).await;
        made.map_err(|status| Error::rpc("create lease", &status))?;
        Ok(Self(id))
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

/// Deletes all leases of a purpose. Nobody may be at work under one of them.
pub(super) async fn delete_all(containerd: &Containerd, purpose: Purpose) -> Result<(), Error> {
    let mut leases = LeasesClient::new(containerd.channel());
    let mut list = namespaced(ListRequest::default());
    list.set_timeout(LIST_TIMEOUT);
    let listed = leases.list(list).await.map_err(|status| Error::rpc("list leases", &status))?.into_inner().leases;
    for lease in listed.into_iter().filter(|lease| lease.id.starts_with(purpose.prefix())) {
        match leases.delete(namespaced(DeleteRequest { id: lease.id, sync: false })).await {
            // It has expired in the meantime.
            Err(status) if status.code() != Code::NotFound => return Err(Error::rpc("delete lease", &status)),
            _ => {}
        }
    }
    Ok(())
}

fn labels(now: Timestamp) -> HashMap<String, String> {
    let expiry = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
    // containerd takes no more than nine digits behind the point, and needs none.
    HashMap::from([(EXPIRY_LABEL.to_owned(), expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_itself() {
        let now = "2026-02-28T12:30:05.123456789Z".parse().unwrap();
        assert_eq!(labels(now), HashMap::from([("containerd.io/gc.expire".into(), "2026-03-01T12:30:05Z".into())]));
    }
}
