//! Compacts history together with everybody else who does: upstream's protocol.
//!
//! Whoever writes the next version of one key first compacts, at the revision that it saw one interval ago. The
//! others learn from the key's value what has been compacted, and try again an interval later.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use tokio::time::sleep;

use super::Cluster;
use super::failure::Failure;
use super::feed::revision;
use super::members::{Again, Member};

/// Not below the prefix: it belongs to the cluster.
const KEY: &str = "compact_rev_key";

/// What was seen at the last turn.
#[derive(Debug, Default, Clone, Copy)]
struct Turn {
    /// The key's version.
    version: i64,
    /// The cluster's revision.
    revision: i64,
}

/// Compacts for ever.
pub(super) async fn run(cluster: Arc<Cluster>, interval: Duration) {
    let mut last = Turn::default();
    loop {
        sleep(interval).await;
        match turn(&cluster, last).await {
            Ok(turn) => last = turn,
            Err(failure) => tracing::warn!(reason = %failure.reason(), "cannot compact etcd"),
        }
    }
}

async fn turn(cluster: &Cluster, last: Turn) -> Result<Turn, Failure> {
    let take = move |member: Arc<Member>| async move {
        let mine = Compare::version(KEY, CompareOp::Equal, last.version);
        let put = TxnOp::put(KEY, last.revision.to_string(), None);
        member.kv().txn(Txn::new().when([mine]).and_then([put]).or_else([TxnOp::get(KEY, None)])).await
    };
    let answer = cluster.members.write(Again::Wrong, take).await?;
    let now = answer.header().map_or(last.revision, etcd_client::ResponseHeader::revision);
    if answer.succeeded() {
        if last.revision > 0 {
            cluster.compact(last.revision).await?;
        }
        return Ok(Turn { version: last.version + 1, revision: now });
    }
    let mut version = last.version;
    if let Some(TxnOpResponse::Get(found)) = answer.op_responses().into_iter().next()
        && let Some(kv) = found.kvs().first()
    {
        version = kv.version();
        let compacted = std::str::from_utf8(kv.value()).ok().and_then(|text| text.parse().ok());
        cluster.mirror.note_compacted(compacted.map_or(0, revision));
    }
    Ok(Turn { version, revision: now })
}
