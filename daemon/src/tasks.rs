//! Supervised tasks: every future has a name and an owner that awaits it.

use std::{
    any::Any,
    fmt::Display,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument as _, error, error_span, warn};

use crate::{Backoff, Drain, metrics};

const RESTART_BASE: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A task that ran this long is taken as healthy: its next restart is quick again.
const HEALTHY: Duration = Duration::from_secs(60);

/// Some tasks had not ended at the deadline.
#[derive(Debug, thiserror::Error)]
#[error("{left} of the process's tasks did not end within {deadline:?}")]
pub struct JoinError {
    left: usize,
    deadline: Duration,
}

/// The tasks of one process or component. Clones own the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    drain: Drain,
    tracker: TaskTracker,
    aborts: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Tasks {
    /// No tasks yet. Supervised tasks are not restarted once `drain` has started.
    pub fn new(drain: Drain) -> Self {
        Self { drain, tracker: TaskTracker::new(), aborts: Arc::default() }
    }

    /// The drain that ends these tasks.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Runs a future to its end. A panic is logged and counted.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let future = async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                metrics::task_failed(name);
                error!(panic = panic_text(&*panic), "task panicked");
            }
        };
        let handle = self.tracker.spawn(future.instrument(error_span!("task", name)));
        self.keep(handle.abort_handle());
    }

    /// Runs a future that ends early when the returned handle is dropped.
    #[must_use = "dropping the handle ends the task"]
    pub fn spawn_owned<F>(&self, name: &'static str, future: F) -> AbortOnDropHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = error_span!("task", name);
        AbortOnDropHandle::new(self.tracker.spawn(future.instrument(span)))
    }

    /// Runs what `make` makes, again whenever it fails, panics or ends before the drain, after a growing delay.
    pub fn supervise<M, F, E>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send,
    {
        let drain = self.drain.clone();
        self.spawn(name, async move {
            let mut backoff = Backoff::new(RESTART_BASE, RESTART_MAX).with_jitter(0.1);
            while !drain.is_draining() {
                let started = crate::clock::monotonic();
                let outcome = AssertUnwindSafe(make()).catch_unwind().await;
                if drain.is_draining() {
                    return;
                }
                metrics::task_failed(name);
                report(outcome);
                if started.elapsed() > HEALTHY {
                    backoff.reset();
                }
                drain.run(tokio::time::sleep(backoff.next_delay())).await;
            }
        });
    }

    /// Waits until every task has ended; ends those that are left at the deadline.
    ///
    /// # Errors
    /// When tasks had to be ended.
    pub async fn join(&self, deadline: Duration) -> Result<(), JoinError> {
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let left = self.tracker.len();
        self.lock().drain(..).for_each(|task| task.abort());
        Err(JoinError { left, deadline })
    }

    fn keep(&self, handle: tokio::task::AbortHandle) {
        let mut aborts = self.lock();
        aborts.retain(|task| !task.is_finished());
        aborts.push(handle);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<tokio::task::AbortHandle>> {
        self.aborts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report<E: Display>(outcome: Result<Result<(), E>, Box<dyn Any + Send>>) {
    match outcome {
        Ok(Ok(())) => warn!("task ended early; starting it again"),
        Ok(Err(failure)) => error!(%failure, "task failed; starting it again"),
        Err(panic) => error!(panic = panic_text(&*panic), "task panicked; starting it again"),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_is_started_again_until_the_drain() {
        let (trigger, drain) = Drain::new();
        let tasks = Tasks::new(drain.clone());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        tasks.supervise("failing", move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_ne!(run, 1, "a panic is survived too");
                Err::<(), _>("broken")
            }
        });
        while runs.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        trigger.start();
        tasks.join(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn join_ends_what_does_not_end() {
        let tasks = Tasks::new(Drain::never());
        tasks.spawn("endless", std::future::pending());
        let error = tasks.join(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.left, 1);
    }
}
