//! Draining: one value passed down, awaited by everything that has to stop.

use tokio_util::sync::CancellationToken;

/// Says when to stop. Clones observe the same end; [`Drain::child`] makes one that can end earlier.
#[derive(Clone, Debug)]
pub struct Drain(CancellationToken);

/// Starts the drain. Dropping it does not.
#[derive(Clone, Debug)]
pub struct Trigger(CancellationToken);

impl Drain {
    /// A drain and what starts it.
    pub fn new() -> (Trigger, Self) {
        let token = CancellationToken::new();
        (Trigger(token.clone()), Self(token))
    }

    /// A drain that nothing starts, for tests and one-shot commands.
    pub fn never() -> Self {
        Self(CancellationToken::new())
    }

    /// Returns when the drain has started. Cancel safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// The drain has started.
    pub fn is_draining(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A drain that starts with this one, or earlier by its own trigger.
    pub fn child(&self) -> (Trigger, Self) {
        let token = self.0.child_token();
        (Trigger(token.clone()), Self(token))
    }

    /// Runs a future until it ends (`Some`) or the drain starts (`None`).
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }
}

impl Trigger {
    /// Starts the drain. Idempotent.
    pub fn start(&self) {
        self.0.cancel();
    }
}
