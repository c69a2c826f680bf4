//! ReplicaSets and ReplicationControllers: as many pods as asked for. One engine serves both kinds.
//!
//! After an engine asked for pods it waits for its informer to show them, by expectations; then it looks again.

mod engine;
mod kinds;
mod plan;
mod rank;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::ReplicationController};

use crate::{Error, context::Context};

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    engine::run::<ReplicaSet>(context).await
}

pub(crate) async fn run_replication_controllers(context: Context) -> Result<(), Error> {
    engine::run::<ReplicationController>(context).await
}
