//! The controller manager: control loops that make the cluster what its objects say.
//!
//! Constraints, in order: controllers meet only through the API, each under the identity upstream gives it; a decision
//! is a pure function of what was observed and the time (`<name>/plan.rs`), and acting is thin (`<name>.rs`); one
//! reflector per kind serves all of them; nothing is listed or rebuilt on a timer.
//!
//! ```text
//! run -> LeaderLease -> term -> table::DESCRIPTORS -> one supervised task per controller
//!                          \-> Informers (identity of the process), Clients (identity of each controller)
//! ```
//!
//! A controller is one file here and one line in [`table`].

mod affinity;
mod args;
mod backends;
mod bootstrap;
mod certificates;
mod claim;
mod clients;
mod clusterroles;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod discovery;
mod disrupt;
mod disruption;
mod endpoints;
mod endpointslice;
mod ephemeral;
mod error;
mod finished;
mod garbage;
mod history;
mod job;
mod legacytokens;
mod metadata;
mod mirroring;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod nodettl;
mod pod_control;
mod podgc;
mod pods;
mod protection;
mod replicaset;
mod resourcequota;
mod root_ca;
mod serviceaccount;
mod servicecidrs;
mod statefulset;
mod table;
mod tainteviction;
mod template;
mod volumebinder;

use std::sync::Arc;

use daemon::{Drain, Tasks};
use reconcile::{Informers, LeaderLease};
use tracing::{info, warn};

pub use args::{Args, Config, LeaderElection, ServiceAccountKey, Signing};
pub use clients::{Clients, ServiceAccounts};
pub use error::Error;

use context::Context;

/// Runs the enabled controllers, while this process holds the lease, until the drain.
///
/// # Errors
/// When the configuration names a controller that does not exist.
pub async fn run(config: Config, clients: Arc<dyn Clients>, drain: Drain) -> Result<(), Error> {
    table::check(&config.controllers)?;
    let config = Arc::new(config);
    let Some(election) = config.leader_election.clone() else {
        term(&config, &clients, drain).await;
        return Ok(());
    };
    let lease = LeaderLease::new(clients.process(), &election.namespace, &election.name, &election.identity);
    while !drain.is_draining() {
        let led = lease.run(&drain, |leading| term(&config, &clients, leading)).await;
        if let Err(lost) = led {
            warn!(error = &lost as &dyn std::error::Error, "no longer the leader, waiting to become it again");
        }
    }
    Ok(())
}

/// One term as leader. Nothing survives it: the next one starts with fresh informers.
async fn term(config: &Arc<Config>, clients: &Arc<dyn Clients>, drain: Drain) {
    let tasks = Tasks::new(drain.clone());
    let informers = Informers::new(clients.process(), tasks.clone());
    let shared = context::Shared::new(informers);
    for descriptor in table::enabled(&config.controllers) {
        let context = Context {
            client: clients.of(descriptor.identity),
            process: clients.process(),
            shared: shared.clone(),
            tasks: tasks.clone(),
            drain: drain.clone(),
            config: config.clone(),
        };
        tasks.supervise(descriptor.name, move || (descriptor.start)(context.clone()));
    }
    info!("controllers started");
    drain.cancelled().await;
    if let Err(error) = tasks.join(config.shutdown_timeout).await {
        warn!(error = &error as &dyn std::error::Error, "controllers did not end in time");
    }
}
