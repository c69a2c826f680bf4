//! Ports of several servers over one store.

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::Drain;

use super::*;
use crate::registry::tests::store;

const RANGE: RangeInclusive<u16> = 30_000..=30_099;

fn ports(store: &Arc<dyn Store>) -> NodePorts {
    NodePorts::new(store.clone(), RANGE, &Tasks::new(Drain::never()))
}

#[tokio::test]
async fn nothing_is_given_out_before_anybody_has_looked() {
    let (store, _directory) = store();
    let one = ports(&store);
    let refusal = one.take(vec![0]).await.unwrap_err();
    assert_eq!(refusal.why.to_string(), "cannot allocate resources of type servicenodeportallocations at this time");
    Place::new(store.clone()).write(&Ports::new(RANGE), None).await.unwrap();
    assert_eq!(one.take(vec![30_001]).await.unwrap().keep(), [30_001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_store_never_give_a_port_twice() {
    let (store, _directory) = store();
    Place::new(store.clone()).write(&Ports::new(RANGE), None).await.unwrap();
    let servers = [ports(&store), ports(&store), ports(&store)];
    let takes = (0..100).map(|number: usize| {
        let server = &servers[number % 3];
        async move { server.take(vec![0]).await.unwrap().keep()[0] }
    });
    let taken = futures::future::join_all(takes).await;
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 100, "{taken:?}");
    let full = servers[0].take(vec![0]).await.unwrap_err();
    assert!(matches!(full.why, Refused::Full), "{full:?}");

    // What one has given back, another can give out, although it thought that there was none left.
    servers[1].release(vec![taken[7], taken[9]]).await;
    let asked = servers[2].take(vec![i64::from(taken[7])]).await.unwrap().keep();
    assert_eq!(asked, [taken[7]]);
    assert_eq!(servers[0].take(vec![0]).await.unwrap().keep(), [taken[9]]);
    let twice = servers[0].take(vec![i64::from(taken[7])]).await.unwrap_err();
    assert!(matches!(twice.why, Refused::Allocated), "{twice:?}");
}

/// Whatever is asked for while a write is under way goes into the next one.
#[tokio::test]
async fn many_requests_are_one_write() {
    let (store, _directory) = store();
    let place = Place::new(store.clone());
    let before = place.write(&Ports::new(RANGE), None).await.unwrap();
    let ports = ports(&store);
    let takes = futures::future::join_all((0..50).map(|_| ports.take(vec![0]))).await;
    let taken: BTreeSet<u16> = takes.into_iter().flat_map(|held| held.unwrap().keep()).collect();
    assert_eq!(taken.len(), 50);
    let writes = place.read().await.unwrap().unwrap().revision - before;
    assert!(writes < 10, "{writes} writes for 50 requests");
}

#[tokio::test]
async fn who_does_not_wait_for_the_answer_holds_nothing() {
    let (store, _directory) = store();
    Place::new(store.clone()).write(&Ports::new(RANGE), None).await.unwrap();
    let ports = ports(&store);
    // Answered and not kept; and asked by somebody who has gone before the answer.
    drop(ports.take(vec![30_001]).await.unwrap());
    let (answer, answered) = oneshot::channel();
    ports.requests.send(Request::Take { wanted: vec![30_002, 0], answer }).await.ok().unwrap();
    drop(answered);
    assert_eq!(ports.take(vec![30_003]).await.unwrap().keep(), [30_003]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while ports.in_use().await != [30_003] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", ports.in_use().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let (store, _directory) = store();
    Place::new(store.clone()).write(&Ports::new(RANGE), None).await.unwrap();
    let ports = ports(&store);
    ports.take(vec![30_001]).await.unwrap().keep();
    assert_eq!(ports.pretend(&[0, 0, 30_002, 80]).await.unwrap(), [32_769, 32_770, 30_002, 80]);
    let refusal = ports.pretend(&[30_002, 30_001]).await.unwrap_err();
    assert_eq!((refusal.at, refusal.why.to_string()), (1, "provided port is already allocated".to_owned()));
    assert!(ports.pretend(&[30_002, 30_002]).await.is_err());
    assert_eq!(ports.in_use().await, [30_001]);
}
