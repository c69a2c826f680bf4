//! The process's metrics, in Prometheus' text format.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

struct Process {
    registry: Mutex<Registry>,
    task_failures: Family<TaskLabels, Counter>,
}

fn process() -> &'static Process {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    PROCESS.get_or_init(|| {
        let mut registry = Registry::default();
        let task_failures = Family::<TaskLabels, Counter>::default();
        let help = "Ends of supervised tasks that were not asked for";
        registry.register("ironclad_task_failures", help, task_failures.clone());
        Process { registry: Mutex::new(registry), task_failures }
    })
}

/// The registry, to register metrics in at start.
pub fn registry() -> MutexGuard<'static, Registry> {
    process().registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every registered metric as text.
pub fn render() -> String {
    let mut text = String::new();
    encode(&mut text, &registry()).expect("a String takes every write");
    text
}

pub(crate) fn task_failed(task: &'static str) {
    process().task_failures.get_or_create(&TaskLabels { task }).inc();
}
