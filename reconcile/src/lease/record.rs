//! What a candidate writes into a lease, and when it may. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::LEASE_DURATION;

pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Held by nobody, by this candidate, or by one that has not renewed it for the duration it promised.
pub(super) fn is_free(lease: &Lease, identity: &str, unchanged_for: Duration) -> bool {
    let duration = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    let duration = Duration::from_secs(u64::try_from(duration).unwrap_or(0));
    holder(lease).is_none_or(|holder| holder == identity) || unchanged_for > duration
}

pub(super) fn fresh(namespace: &str, name: &str, identity: &str, now: Timestamp) -> Lease {
    let metadata =
        ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() };
    Lease { metadata, spec: Some(spec(identity, 0, now)) }
}

pub(super) fn taken(mut lease: Lease, identity: &str, now: Timestamp) -> Lease {
    if holder(&lease) == Some(identity) {
        return renewed(lease, now);
    }
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let old = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        strategy: old.strategy,
        preferred_holder: old.preferred_holder,
        ..spec(identity, transitions.saturating_add(1), now)
    });
    lease
}

pub(super) fn renewed(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.lease_duration_seconds = Some(seconds());
    spec.renew_time = Some(MicroTime(now));
    lease
}

pub(super) fn released(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    spec.acquire_time = Some(MicroTime(now));
    lease
}

fn spec(identity: &str, transitions: i32, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds()),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

fn seconds() -> i32 {
    i32::try_from(LEASE_DURATION.as_secs()).expect("the duration is a small constant")
}
