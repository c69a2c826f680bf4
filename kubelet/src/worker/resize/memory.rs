//! Memory that is in use cannot be taken away: what a resize would do to limits, looked at before anything is changed.
//!
//! Mirrors `validateMemoryResizeAction` of upstream's kubelet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use crate::spec::resources::whole;

/// New limits, in bytes, that are below those of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decrease {
    pub pod: Option<i64>,
    /// By container name.
    pub containers: BTreeMap<String, i64>,
}

/// What is in use, in bytes; none where nobody can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub pod: Option<u64>,
    /// By container name.
    pub containers: BTreeMap<String, Option<u64>>,
}

impl Decrease {
    pub(super) fn is_none(&self) -> bool {
        self.pod.is_none() && self.containers.is_empty()
    }

    /// A pod's limit gets smaller, or there was none.
    pub(super) fn of_pod(now: Option<i64>, wanted: Option<i64>) -> Self {
        let pod = wanted.filter(|wanted| now.is_none_or(|now| *wanted < now));
        Self { pod, containers: BTreeMap::new() }
    }

    /// Adds a container, which has what is `now` known of it.
    pub(super) fn add(&mut self, container: &Container, now: Option<&ResourceRequirements>) {
        let limit =
            |resources: Option<&ResourceRequirements>| whole(resources.and_then(|r| r.limits.as_ref()), "memory");
        let (wanted, now) = (limit(container.resources.as_ref()), limit(now));
        if wanted != 0 && (now == 0 || wanted < now) {
            self.containers.insert(container.name.clone(), wanted);
        }
    }

    /// Why it cannot be; none when it can.
    pub(super) fn refusal(&self, usage: &Usage) -> Option<String> {
        let reaches = |usage: u64, limit: i64| u64::try_from(limit).is_ok_and(|limit| usage >= limit);
        let mut reasons = Vec::new();
        match (self.pod, usage.pod) {
            (Some(_), None) => reasons.push("missing pod memory usage".to_owned()),
            (Some(limit), Some(usage)) if reaches(usage, limit) => {
                reasons.push(format!("attempting to set pod memory limit ({limit}) below current usage ({usage})"));
            }
            _ => {}
        }
        for (name, own) in &usage.containers {
            let Some(limit) = self.containers.get(name).copied() else { continue };
            match own {
                None => reasons.push(format!("missing container {name:?} memory usage")),
                Some(own) if reaches(*own, limit) => {
                    // Upstream shows what the whole pod uses.
                    let shown = usage.pod.unwrap_or(*own);
                    reasons.push(format!(
                        "attempting to set container {name:?} memory limit ({limit}) below current usage ({shown})"
                    ));
                }
                Some(_) => {}
            }
        }
        let reasons = match reasons.as_slice() {
            [] => return None,
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        Some(format!("cannot decrease memory limits: {reasons}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resources(limit: Option<&str>) -> ResourceRequirements {
        let limits: Value = limit.map_or(json!({}), |limit| json!({"memory": limit}));
        serde_json::from_value(json!({"limits": limits})).unwrap()
    }

    #[test]
    fn which_limits_get_smaller() {
        for (now, wanted, expected) in [
            (Some("2"), Some("1"), Some(1)),
            (Some("1"), Some("1"), None),
            (Some("1"), Some("2"), None),
            (None, Some("2"), Some(2)),
            (Some("2"), None, None),
        ] {
            let container = Container { name: "c".into(), resources: Some(resources(wanted)), ..Container::default() };
            let mut decrease = Decrease::default();
            decrease.add(&container, now.map(|now| resources(Some(now))).as_ref());
            assert_eq!(decrease.containers.get("c").copied(), expected, "{now:?} {wanted:?}");
            let bytes = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            assert_eq!(Decrease::of_pod(bytes(now), bytes(wanted)).pod, expected, "{now:?} {wanted:?}");
        }
    }

    #[test]
    fn what_is_in_use_stays() {
        let decrease = Decrease { pod: Some(20), containers: [("c".to_owned(), 10)].into() };
        let usage = |pod, container: Option<u64>| Usage { pod, containers: [("c".to_owned(), container)].into() };
        let pod = "attempting to set pod memory limit (20) below current usage (20)";
        let container =
            |shown: u64| format!("attempting to set container \"c\" memory limit (10) below current usage ({shown})");
        for (usage, expected) in [
            (usage(Some(19), Some(9)), None),
            (usage(Some(20), Some(9)), Some(pod.to_owned())),
            (usage(Some(19), Some(11)), Some(container(19))),
            (usage(Some(20), Some(11)), Some(format!("[{pod}, {}]", container(20)))),
            (usage(None, Some(11)), Some(format!("[missing pod memory usage, {}]", container(11)))),
            (usage(None, Some(9)), Some("missing pod memory usage".into())),
            (usage(Some(1), None), Some("missing container \"c\" memory usage".into())),
            (Usage { pod: Some(1), containers: [("d".to_owned(), Some(99))].into() }, None),
        ] {
            let expected = expected.map(|why| format!("cannot decrease memory limits: {why}"));
            assert_eq!(decrease.refusal(&usage), expected, "{usage:?}");
        }
        assert_eq!(Decrease::default().refusal(&usage(None, None)), None);
    }
}
