//! Policies of a job: which failures of pods count, and when enough has succeeded. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    batch::v1::{
        PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
        PodFailurePolicyRule, SuccessPolicy,
    },
    core::v1::{ContainerStatus, Pod, PodCondition},
};
use reconcile::Key;

use super::indexes;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One failure.
    Count,
    /// None.
    Ignore,
    /// The end of its index.
    FailIndex,
    /// The end of the job, with this message.
    FailJob(String),
}

/// The verdict of the first rule that is about a failed pod.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.into_iter().flat_map(|policy| policy.rules.iter().enumerate());
    rules.filter_map(|(number, rule)| apply(rule, number, pod)).next().unwrap_or(Verdict::Count)
}

fn apply(rule: &PodFailurePolicyRule, number: usize, pod: &Pod) -> Option<Verdict> {
    let key = Key::of(pod);
    let why = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
        (Some(codes), _) => {
            let (container, code) = matching_container(pod, codes)?;
            format!("Container {} for pod {key} failed with exit code {code}", container.name)
        }
        (None, Some(patterns)) => {
            let condition = matching_condition(pod, patterns)?;
            format!("Pod {key} has condition {}", condition.type_)
        }
        (None, None) => return None,
    };
    match rule.action.as_str() {
        "Ignore" => Some(Verdict::Ignore),
        "Count" => Some(Verdict::Count),
        "FailIndex" => Some(Verdict::FailIndex),
        "FailJob" => Some(Verdict::FailJob(format!("{why} matching {} rule at index {number}", rule.action))),
        _ => None,
    }
}

/// Containers first, then init containers. One that still runs has no exit code, and success is no failure.
fn matching_container<'a>(
    pod: &'a Pod,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a ContainerStatus, i32)> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let named = all.filter(|it| codes.container_name.as_ref().is_none_or(|name| *name == it.name));
    let ended = named.filter_map(|it| Some((it, it.state.as_ref()?.terminated.as_ref()?.exit_code)));
    ended.filter(|(_, code)| *code != 0).find(|(_, code)| match codes.operator.as_str() {
        "In" => codes.values.contains(code),
        "NotIn" => !codes.values.contains(code),
        _ => false,
    })
}

fn matching_condition<'a>(
    pod: &'a Pod,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| patterns.iter().any(|pattern| matches(pattern, condition)))
}

fn matches(pattern: &PodFailurePolicyOnPodConditionsPattern, condition: &PodCondition) -> bool {
    pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
}

/// The number of the first rule that is met by the indexes that have succeeded.
pub(super) fn met(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &BTreeSet<i32>) -> Option<usize> {
    if succeeded.is_empty() {
        return None;
    }
    let enough = |found: usize, wanted: Option<i32>| {
        wanted.is_some_and(|wanted| found >= usize::try_from(wanted).unwrap_or(usize::MAX))
    };
    policy?.rules.iter().position(|rule| {
        let Some(asked) = &rule.succeeded_indexes else { return enough(succeeded.len(), rule.succeeded_count) };
        let asked = indexes::parse(asked, completions);
        let found = asked.intersection(succeeded).count();
        !asked.is_empty() && (found == asked.len() || enough(found, rule.succeeded_count))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap()
    }

    fn exited(name: &str, code: i32) -> serde_json::Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn the_first_rule_that_is_about_a_pod_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [3]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 3]}},
            {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]},
        ]}))
        .unwrap();
        let message = |text: &str| Verdict::FailJob(text.to_owned());
        let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
        let cases = [
            (
                json!({"containerStatuses": [exited("main", 3)]}),
                message("Container main for pod n/p failed with exit code 3 matching FailJob rule at index 0"),
            ),
            (json!({"containerStatuses": [exited("side", 3)]}), Verdict::Count),
            (json!({"containerStatuses": [exited("main", 1)]}), Verdict::Count),
            (
                json!({"containerStatuses": [exited("main", 0)], "initContainerStatuses": [exited("i", 9)]}),
                Verdict::FailIndex,
            ),
            (json!({"conditions": disrupted, "containerStatuses": [exited("main", 9)]}), Verdict::Ignore),
            (
                json!({"conditions": [{"type": "ConfigIssue", "status": "True"}]}),
                message("Pod n/p has condition ConfigIssue matching FailJob rule at index 3"),
            ),
            (json!({"conditions": [{"type": "ConfigIssue", "status": "False"}]}), Verdict::Count),
        ];
        for (status, expected) in cases {
            assert_eq!(judge(Some(&policy), &pod(status.clone())), expected, "{status}");
            assert_eq!(judge(None, &pod(status)), Verdict::Count);
        }
    }

    #[test]
    fn enough_success_is_enough() {
        let policy = |rules| serde_json::from_value::<SuccessPolicy>(json!({ "rules": rules })).unwrap();
        let cases = [
            (json!([{"succeededCount": 2}]), vec![1], None),
            (json!([{"succeededCount": 2}]), vec![1, 4], Some(0)),
            (json!([{"succeededIndexes": "0-2"}]), vec![0, 2, 3], None),
            (json!([{"succeededIndexes": "0-2"}]), vec![0, 1, 2], Some(0)),
            (json!([{"succeededIndexes": "0-2", "succeededCount": 2}]), vec![0, 2], Some(0)),
            (json!([{"succeededIndexes": "4"}, {"succeededIndexes": "0,3"}]), vec![0, 3], Some(1)),
            (json!([{"succeededIndexes": "7"}]), vec![0, 3], None),
        ];
        for (rules, succeeded, expected) in cases {
            let succeeded: BTreeSet<i32> = succeeded.into_iter().collect();
            assert_eq!(met(Some(&policy(rules.clone())), 5, &succeeded), expected, "{rules} {succeeded:?}");
        }
    }
}
