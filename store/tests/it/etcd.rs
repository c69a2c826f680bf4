//! The contract on etcd, and what only a cluster can do: lose members.

use std::sync::Arc;
use std::time::Duration;

use store::{EtcdOptions, EtcdStore, Store};
use testkit::etcd::{Cluster, Release};

use crate::contract;

fn options(cluster: &Cluster) -> EtcdOptions {
    EtcdOptions { compaction_interval: Duration::ZERO, ..EtcdOptions::new(cluster.endpoints()) }
}

async fn open(cluster: &Cluster) -> EtcdStore {
    EtcdStore::new(options(cluster)).await.unwrap()
}

async fn keeps_the_contract(release: Release) {
    let cluster = Cluster::start(release, 1).unwrap();
    let store: Arc<dyn Store> = Arc::new(open(&cluster).await);
    contract::run(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_4_keeps_the_contract() {
    keeps_the_contract(Release::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_7_keeps_the_contract() {
    keeps_the_contract(Release::V3_7).await;
}
