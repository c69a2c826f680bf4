//! When a job expires. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

/// The moment, for a job that ended and has a time to live.
pub(super) fn expires(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let ended =
        conditions.iter().find(|it| matches!(it.type_.as_str(), "Complete" | "Failed") && it.status == "True")?;
    ended.last_transition_time.as_ref()?.0.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

pub(super) fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    Some(Duration::try_from(expires(job)?.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn jobs_live_on_after_their_end() {
        let ended =
            |type_: &str| json!([{"type": type_, "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}]);
        for (ttl, conditions, expected) in [
            (json!(10), ended("Complete"), Some(5)),
            (json!(3), ended("Failed"), Some(0)),
            (json!(10), ended("Suspended"), None),
            (json!(10), Value::Null, None),
            (Value::Null, ended("Complete"), None),
        ] {
            let value = json!({"metadata": {}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": conditions}});
            let job = serde_json::from_value(value).unwrap();
            let left = left(&job, Timestamp::from_second(105).unwrap());
            assert_eq!(left.map(|it| it.as_secs()), expected);
        }
    }
}
