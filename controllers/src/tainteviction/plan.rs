//! What taints mean for a pod. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It tolerates every taint for as long as it lasts.
    Stays,
    /// It tolerates every taint, one of them for so long only.
    Tolerates(Duration),
    /// It does not tolerate a taint.
    Goes,
}

pub(super) fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

pub(super) fn verdict(pod: &Pod, node: &Node) -> Verdict {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut limit: Option<Duration> = None;
    for taint in no_execute(node) {
        let Some(toleration) = tolerations.iter().find(|it| tolerates(it, taint)) else { return Verdict::Goes };
        if let Some(seconds) = toleration.toleration_seconds {
            let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            limit = Some(limit.map_or(seconds, |limit| limit.min(seconds)));
        }
    }
    match limit {
        None => Verdict::Stays,
        Some(Duration::ZERO) => Verdict::Goes,
        Some(limit) => Verdict::Tolerates(limit),
    }
}

/// An empty key with `Exists` tolerates all taints, an empty effect all effects.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if said(&toleration.effect).is_some_and(|effect| effect != taint.effect)
        || said(&toleration.key).is_some_and(|key| key != taint.key)
    {
        return false;
    }
    let value = || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => said(&toleration.key).is_some() && value(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tolerations_decide() {
        let for_seconds = |key: &str, seconds: i64| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let taint = |key: &str, value: &str| json!({"key": key, "value": value, "effect": "NoExecute"});
        let soft = json!({"key": "a", "effect": "NoSchedule"});
        for (taints, tolerations, expected) in [
            (vec![], vec![], Verdict::Stays),
            (vec![soft], vec![], Verdict::Stays),
            (vec![taint("a", "")], vec![], Verdict::Goes),
            (vec![taint("a", "")], vec![json!({"operator": "Exists"})], Verdict::Stays),
            (vec![taint("a", "v")], vec![json!({"key": "a", "value": "v"})], Verdict::Stays),
            (vec![taint("a", "v")], vec![json!({"key": "a", "value": "w"})], Verdict::Goes),
            (vec![taint("a", "")], vec![for_seconds("a", 300)], Verdict::Tolerates(Duration::from_secs(300))),
            (
                vec![taint("a", ""), taint("b", "")],
                vec![for_seconds("a", 300), for_seconds("b", 20)],
                Verdict::Tolerates(Duration::from_secs(20)),
            ),
            (vec![taint("a", ""), taint("b", "")], vec![for_seconds("a", 300)], Verdict::Goes),
            (vec![taint("a", "")], vec![for_seconds("a", 0)], Verdict::Goes),
        ] {
            let object = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
            let node = serde_json::from_value(object(json!({"taints": taints}))).unwrap();
            let pod = serde_json::from_value(object(json!({"containers": [], "tolerations": tolerations}))).unwrap();
            assert_eq!(verdict(&pod, &node), expected, "{taints:?} {tolerations:?}");
        }
    }
}
