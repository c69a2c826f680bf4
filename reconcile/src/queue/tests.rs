//! Tests on a held clock.

use super::*;

async fn now<K: Eq + Hash + Clone>(queue: &Queue<K>) -> Option<K> {
    tokio::time::timeout(Duration::ZERO, queue.next()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_once_and_is_worked_on_once() {
    let queue = Queue::new();
    queue.add("a");
    queue.add("a");
    assert_eq!(now(&queue).await, Some("a"));
    queue.add("a");
    assert_eq!(now(&queue).await, None, "still worked on");
    queue.done(&"a");
    assert_eq!(now(&queue).await, Some("a"));
    queue.done(&"a");
    assert_eq!(now(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_delay_counts() {
    let queue = Queue::new();
    let start = Instant::now();
    queue.add_after("a", Duration::from_secs(5));
    queue.add_after("b", Duration::from_secs(3));
    queue.add_after("a", Duration::from_secs(2));
    queue.add_after("a", Duration::from_secs(9));
    assert_eq!((queue.next().await, start.elapsed().as_secs()), ("a", 2));
    assert_eq!((queue.next().await, start.elapsed().as_secs()), ("b", 3));
    queue.done(&"a");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(now(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_delay_beyond_all_clocks_is_a_long_one() {
    let queue = Queue::new();
    queue.add_after("never", Duration::from_secs(i64::MAX.unsigned_abs()));
    queue.add_after("never", Duration::MAX);
    queue.add_after("soon", Duration::from_secs(1));
    assert_eq!(queue.next().await, "soon");
    assert_eq!(now(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn failures_double_the_delay_until_forgotten() {
    let queue = Queue::new();
    let mut delays = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        queue.add_rate_limited("a");
        queue.next().await;
        queue.done(&"a");
        delays.push(start.elapsed().as_millis());
    }
    assert_eq!(delays, [5, 10, 20, 40]);
    queue.forget(&"a");
    let start = Instant::now();
    queue.add_rate_limited("a");
    queue.next().await;
    assert_eq!(start.elapsed().as_millis(), 5);
    for _ in 0..100 {
        queue.add_rate_limited("b");
    }
    assert_eq!(queue.failures(&"b"), 100);
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_its_key() {
    let queue = Queue::new();
    let workers = (0..3).map(|_| {
        let queue = queue.clone();
        async move { queue.next().await }
    });
    let adder = async {
        for key in [1, 2] {
            queue.add(key);
        }
        queue.add_after(3, Duration::from_secs(1));
    };
    let (mut keys, ()) = futures::future::join(futures::future::join_all(workers), adder).await;
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 3]);
}
