//! What differs between the two kinds. The engine sees both as replica sets.

use std::sync::Arc;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::Resource;
use reconcile::Object;
use serde::Serialize;

pub(super) trait Replicating: Object + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// Name of the controller in logs, and of the source of its events.
    const CONTROLLER: &'static str;
    const COMPONENT: &'static str;
    /// The status has a field for terminating pods.
    const COUNTS_TERMINATING: bool;

    fn view(this: &Arc<Self>) -> Arc<ReplicaSet>;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl Replicating for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const COMPONENT: &'static str = "replicaset-controller";
    const COUNTS_TERMINATING: bool = true;

    fn view(this: &Arc<Self>) -> Arc<ReplicaSet> {
        this.clone()
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Replicating for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller-controller";
    const COMPONENT: &'static str = "replication-controller";
    const COUNTS_TERMINATING: bool = false;

    fn view(this: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = this.spec.clone().unwrap_or_default();
        let status = this.status.clone().unwrap_or_default();
        Arc::new(ReplicaSet {
            metadata: this.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            },
            status: Some(ReplicaSetStatus {
                available_replicas: status.available_replicas,
                conditions: status.conditions.map(|list| list.into_iter().map(to_set).collect()),
                fully_labeled_replicas: status.fully_labeled_replicas,
                observed_generation: status.observed_generation,
                ready_replicas: status.ready_replicas,
                replicas: status.replicas,
                terminating_replicas: None,
            }),
        })
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|list| list.into_iter().map(from_set).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
    }
}

fn to_set(it: ReplicationControllerCondition) -> ReplicaSetCondition {
    let ReplicationControllerCondition { last_transition_time, message, reason, status, type_ } = it;
    ReplicaSetCondition { last_transition_time, message, reason, status: Some(status), type_: Some(type_) }
}

fn from_set(it: ReplicaSetCondition) -> ReplicationControllerCondition {
    let ReplicaSetCondition { last_transition_time, message, reason, status, type_ } = it;
    let (status, type_) = (status.unwrap_or_default(), type_.unwrap_or_default());
    ReplicationControllerCondition { last_transition_time, message, reason, status, type_ }
}
