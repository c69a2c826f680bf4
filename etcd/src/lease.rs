//! Leases.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use rand::Rng as _;
use store::Txn;
use tonic::{Status, Streaming};

use crate::Server;
use crate::cluster::{header, header_now};
use crate::errors::{LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TOO_LONG, status};
use crate::proto::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::route::Answers;

/// Etcd's limits, in seconds. The shortest is what a member with etcd's default heartbeats grants.
const TTL_MAX: i64 = 9_000_000_000;
const TTL_MIN: i64 = 2;

pub(crate) async fn grant(server: &Server, call: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    if call.ttl > TTL_MAX {
        return Err(LEASE_TOO_LONG.into());
    }
    let ttl = call.ttl.max(TTL_MIN);
    let decide = move |txn: &mut Txn<'_>| {
        let view = txn.view();
        let taken = |id: i64| view.leases().get(id).is_some();
        if call.id != store::NO_LEASE && taken(call.id) {
            return Err(Status::from(LEASE_EXISTS));
        }
        let id = if call.id == store::NO_LEASE { free_id(taken) } else { call.id };
        txn.grant(id, ttl.unsigned_abs() * 1000);
        Ok((id, view.revision()))
    };
    let (id, revision) = server.store.transact(decide).await.map_err(|error| status(&error))??;
    Ok(LeaseGrantResponse { header: header(revision), id, ttl, error: String::new() })
}

fn free_id(taken: impl Fn(i64) -> bool) -> i64 {
    loop {
        let id = rand::rng().random_range(1..i64::MAX);
        if !taken(id) {
            return id;
        }
    }
}

pub(crate) async fn revoke(server: &Server, call: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
    let decide = move |txn: &mut Txn<'_>| {
        let there = txn.revoke(call.id);
        if there { Ok(txn.revision()) } else { Err(Status::from(LEASE_NOT_FOUND)) }
    };
    let revision = server.store.transact(decide).await.map_err(|error| status(&error))??;
    Ok(LeaseRevokeResponse { header: header(revision) })
}

/// Renews lease after lease, as they are named.
pub(crate) fn keep_alive(
    server: Arc<Server>,
    calls: Streaming<LeaseKeepAliveRequest>,
) -> Answers<LeaseKeepAliveResponse> {
    let drain = server.drain.clone();
    let answers = calls.then(move |call| {
        let server = server.clone();
        async move {
            let id = call?.id;
            // The header first: a lease that ends afterwards ends at a later revision.
            let header = header_now(&server);
            let renewed = server.store.transact(move |txn| Ok::<_, Status>(txn.renew(id))).await;
            let ttl = renewed.map_err(|error| status(&error))??.unwrap_or(0) / 1000;
            Ok(LeaseKeepAliveResponse { header, id, ttl: i64::try_from(ttl).unwrap_or(i64::MAX) })
        }
    });
    Box::pin(answers.take_until(async move { drain.cancelled().await }))
}

pub(crate) fn time_to_live(server: &Server, call: LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
    let view = server.store.latest();
    let header = header(view.revision());
    let Some(lease) = view.leases().get(call.id) else {
        return LeaseTimeToLiveResponse { header, id: call.id, ttl: -1, ..LeaseTimeToLiveResponse::default() };
    };
    let left_millis = lease.deadline_millis.saturating_sub(server.store.now_millis());
    let seconds = |millis: u64| i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let keys = lease.keys.iter().filter(|_| call.keys);
    LeaseTimeToLiveResponse {
        header,
        id: call.id,
        ttl: seconds(left_millis),
        granted_ttl: seconds(lease.ttl_millis),
        keys: keys.map(|key| Bytes::copy_from_slice(key.as_str().as_bytes())).collect(),
    }
}

pub(crate) fn leases(server: &Server, _call: LeaseLeasesRequest) -> LeaseLeasesResponse {
    let view = server.store.latest();
    let leases = view.leases().iter().map(|(id, _)| LeaseStatus { id }).collect();
    LeaseLeasesResponse { header: header(view.revision()), leases }
}
