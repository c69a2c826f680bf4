//! Jobs that limit the failures of each index. Pure.
//!
//! How often an index has failed stands in an annotation of its pods. The last failed pod of an index is kept until its
//! replacement exists, which takes the number over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{JobSpec, JobStatus, PodFailurePolicy},
    core::v1::Pod,
};

use super::{
    indexes,
    plan::backoff,
    pod::index,
    policy::{Verdict, judge},
    tracking::{self, End, finished_at},
};

const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The state of the indexes of a job that limits their failures.
#[derive(Debug, Default)]
pub(super) struct PerIndex {
    pub(super) failed: BTreeSet<i32>,
    /// The last failed pod of each index that waits for another.
    pub(super) held: BTreeMap<i32, Arc<Pod>>,
}

/// What there is of a job's pods.
pub(super) struct Pods<'a> {
    pub(super) all: &'a [Arc<Pod>],
    pub(super) active: &'a [Arc<Pod>],
    pub(super) only_failed: bool,
}

impl PerIndex {
    /// None for a job without such a limit. Once the job is ending, no pod is kept.
    pub(super) fn new(spec: &JobSpec, status: &JobStatus, pods: &Pods<'_>, is_ending: bool) -> Option<Self> {
        let limit = spec.backoff_limit_per_index?;
        let completions = spec.completions?;
        let policy = spec.pod_failure_policy.as_ref();
        let is_failed = |pod: &&Arc<Pod>| tracking::end(pod, pods.only_failed) == Some(End::Failed);
        let failed_pods = || pods.all.iter().filter(|pod| tracking::is_tracked(pod)).filter(is_failed);
        let valid = |pod: &Arc<Pod>| index(pod).filter(|index| *index < completions);
        let mut failed = indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        failed.extend(failed_pods().filter(|pod| is_last(policy, limit, pod)).filter_map(valid));
        let mut held = BTreeMap::new();
        if !is_ending {
            let succeeded = tracking::succeeded_indexes(status, pods.all, completions);
            let active: BTreeSet<i32> = pods.active.iter().filter_map(|pod| index(pod)).collect();
            let is_open = |at: &i32| !succeeded.contains(at) && !failed.contains(at) && !active.contains(at);
            for (at, pod) in failed_pods().filter_map(|pod| Some((valid(pod)?, pod))).filter(|(at, _)| is_open(at)) {
                let last = held.entry(at).or_insert_with(|| pod.clone());
                if (absolute(last), finished_at(last)) < (absolute(pod), finished_at(pod)) {
                    *last = pod.clone();
                }
            }
        }
        Some(Self { failed, held })
    }

    /// The uids of pods that may not go yet.
    pub(super) fn held_uids(&self) -> BTreeSet<String> {
        self.held.values().filter_map(|pod| pod.metadata.uid.clone()).collect()
    }

    /// How long no pod may be made for an index.
    pub(super) fn left(&self, index: i32, now: Timestamp) -> Duration {
        self.held.get(&index).map_or(Duration::ZERO, |pod| {
            let failures = u32::try_from(absolute(pod)).unwrap_or(0).saturating_add(1);
            backoff(failures, finished_at(pod).unwrap_or(now), now)
        })
    }

    /// Notes on a new pod what has become of those before it.
    pub(super) fn annotate(&self, policy: Option<&PodFailurePolicy>, index: i32, pod: &mut Pod) {
        let (mut failures, mut ignored) = (0, 0);
        if let Some(last) = self.held.get(&index) {
            let counts = judge(policy, last) != Verdict::Ignore;
            failures = noted(last, FAILURES) + i32::from(counts);
            ignored = noted(last, IGNORED) + i32::from(!counts);
        }
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
}

/// No other pod is made for the index of this failed one.
fn is_last(policy: Option<&PodFailurePolicy>, limit: i32, pod: &Pod) -> bool {
    match judge(policy, pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        Verdict::Count | Verdict::FailJob(_) => noted(pod, FAILURES) >= limit,
    }
}

fn noted(pod: &Pod, annotation: &str) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    text.and_then(|text| text.parse::<i32>().ok()).filter(|number| *number >= 0).unwrap_or(0)
}

/// Failures of an index before this pod's, counted or not.
fn absolute(pod: &Pod) -> i32 {
    noted(pod, FAILURES).saturating_add(noted(pod, IGNORED))
}
