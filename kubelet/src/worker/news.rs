//! Changes of the config maps and secrets that a pod refers to, at a pace that a node bears.
//!
//! Each brings a turn of every pod that refers to the object. A writer that never rests must not keep a node's pods, and
//! with them its disk and runtime, busy all the time: upstream looks at volumes about once a minute for the same reason.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Time between two turns that news bring. The first comes at once.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) struct News {
    bell: Arc<Notify>,
    rests_until: Instant,
}

impl News {
    pub(super) fn new() -> Self {
        Self { bell: Arc::default(), rests_until: Instant::now() }
    }

    /// Whom to tell. What is told while this rests, or while nobody listens, is one piece of news later.
    pub(super) fn bell(&self) -> &Arc<Notify> {
        &self.bell
    }

    /// Returns when there are news. Cancel safe: a turn that something else brings reads what is newest anyway.
    pub(super) async fn come(&mut self) {
        tokio::time::sleep_until(self.rests_until).await;
        self.bell.notified().await;
        self.rests_until = Instant::now() + PERIOD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restless_writer_brings_a_turn_each_period() {
        let mut news = News::new();
        let (bell, start) = (news.bell().clone(), Instant::now());
        let writer = async {
            for _ in 0..500 {
                bell.notify_one();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reader = async {
            let mut turns = Vec::new();
            while tokio::time::timeout(PERIOD * 3, news.come()).await.is_ok() {
                turns.push(start.elapsed().as_millis());
                // Others bring turns too, in between.
                let _ = tokio::time::timeout(Duration::from_millis(100), news.come()).await;
            }
            turns
        };
        let ((), turns) = tokio::join!(writer, reader);
        assert_eq!(turns.first(), Some(&0), "the first at once: {turns:?}");
        assert_eq!(turns.len(), 6, "the last is not lost: {turns:?}");
        assert!(turns.windows(2).all(|pair| pair[1] - pair[0] >= PERIOD.as_millis()), "{turns:?}");
    }
}
