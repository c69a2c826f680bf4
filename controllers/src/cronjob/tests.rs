//! Tables of starts.

use serde_json::{Value, json};

use super::*;

fn cron(spec: Value, status: Value) -> CronJob {
    let mut value = json!({"metadata": {"name": "tick", "namespace": "ns", "uid": "c", "creationTimestamp": "2024-01-01T00:00:30Z"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {}}}}, "status": status});
    json_patch::merge(&mut value["spec"], &spec);
    serde_json::from_value(value).unwrap()
}

fn job(name: &str, how: Option<&str>, second: u8) -> Arc<Job> {
    let conditions: Vec<_> = how.iter().map(|how| json!({"type": how, "status": "True"})).collect();
    let value = json!({"metadata": {"name": name, "uid": name}, "spec": {"template": {}}, "status": {
        "conditions": conditions, "startTime": format!("2024-01-01T00:00:{second:02}Z"),
        "completionTime": how.map(|_| format!("2024-01-01T00:01:{second:02}Z"))}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn at(text: &str) -> Timestamp {
    format!("2024-01-01T{text}Z").parse().unwrap()
}

fn planned(cron: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
    plan(cron, jobs, &BTreeSet::new(), at(now))
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn a_job_starts_when_its_time_has_come() {
    let fresh = cron(json!({}), json!({}));
    let early = planned(&fresh, &[], "00:00:45");
    assert!(early.start.is_none());
    assert_eq!(early.again, Some(Duration::from_millis(15_100)));
    let due = planned(&fresh, &[], "00:01:00");
    let (time, started) = due.start.unwrap();
    assert_eq!(time, at("00:01:00"));
    assert_eq!(started.metadata.name.as_deref(), Some("tick-28401121"));
    assert_eq!(started.metadata.annotations.unwrap()[SCHEDULED_AT], "2024-01-01T00:01:00Z");
    let late = planned(&fresh, &[], "00:07:30");
    assert_eq!(late.start.unwrap().0, at("00:07:00"), "only the last of those missed");
    let done = cron(json!({}), json!({"lastScheduleTime": "2024-01-01T00:01:00Z"}));
    assert!(planned(&done, &[], "00:01:59").start.is_none());
    assert!(planned(&cron(json!({"suspend": true}), json!({})), &[], "00:05:00").start.is_none());
    let many = planned(&fresh, &[], "05:00:00");
    assert_eq!((many.start.as_ref().unwrap().0, reasons(&many)), (at("05:00:00"), vec!["TooManyMissedTimes"]));
}

#[test]
fn running_jobs_are_respected() {
    let active = json!({"active": [{"name": "old", "uid": "old"}]});
    let old = job("old", None, 0);
    let forbid =
        planned(&cron(json!({"concurrencyPolicy": "Forbid"}), active.clone()), std::slice::from_ref(&old), "00:01:00");
    assert_eq!((forbid.start.is_none(), reasons(&forbid)), (true, vec!["JobAlreadyActive"]));
    let replace =
        planned(&cron(json!({"concurrencyPolicy": "Replace"}), active.clone()), std::slice::from_ref(&old), "00:01:00");
    assert_eq!((replace.start.is_some(), replace.replace), (true, vec!["old".to_owned()]));
    let allow = planned(&cron(json!({}), active), &[old], "00:01:00");
    assert!(allow.start.is_some() && allow.replace.is_empty());
}

#[test]
fn deadlines_bound_how_late_a_start_may_be() {
    let daily = json!({"schedule": "0 0 * * *", "startingDeadlineSeconds": 60});
    let since = json!({"lastScheduleTime": "2023-12-31T00:00:00Z"});
    assert!(planned(&cron(daily.clone(), since.clone()), &[], "00:00:50").start.is_some());
    assert!(planned(&cron(daily, since.clone()), &[], "00:05:00").start.is_none());
    for seconds in [1_000_000_000_000, i64::MAX] {
        let patient = json!({"schedule": "0 0 * * *", "startingDeadlineSeconds": seconds});
        assert!(planned(&cron(patient, since.clone()), &[], "00:05:00").start.is_some(), "{seconds}");
    }
}

#[test]
fn no_time_is_made_up() {
    let uneven = json!({"schedule": "30 6-16/4 * * 1-5"});
    // A Friday, and the Sunday and Monday after it.
    let since = json!({"lastScheduleTime": "2023-12-29T06:20:00Z"});
    let start = |now: &str| {
        let now = now.parse().unwrap();
        plan(&cron(uneven.clone(), since.clone()), &[], &BTreeSet::new(), now).start.map(|(at, _)| at.to_string())
    };
    assert_eq!(start("2023-12-29T11:00:00Z").as_deref(), Some("2023-12-29T10:30:00Z"));
    assert_eq!(start("2023-12-31T12:00:00Z"), None);
    assert_eq!(start("2024-01-01T07:00:00Z").as_deref(), Some("2024-01-01T06:30:00Z"));
}

#[test]
fn ended_jobs_leave_the_list_and_then_go() {
    let active = json!({"active": [{"name": "a", "uid": "a"}, {"name": "lost", "uid": "lost"}]});
    let jobs = [
        job("a", Some("Complete"), 9),
        job("b", Some("Complete"), 2),
        job("c", Some("Complete"), 3),
        job("d", Some("Complete"), 4),
        job("e", Some("Failed"), 5),
        job("f", Some("Failed"), 6),
        job("stranger", None, 7),
    ];
    let it = cron(json!({"suspend": true}), active);
    let plan = plan(&it, &jobs, &["lost".to_owned()].into(), at("00:02:00"));
    assert_eq!(plan.surplus, ["b", "e"]);
    assert!(plan.status.active.is_none());
    assert_eq!(plan.status.last_successful_time, Some(Time(at("00:01:09"))));
    assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
}

#[test]
fn what_cannot_be_read_is_told() {
    let wrong = planned(&cron(json!({"schedule": "x"}), json!({})), &[], "00:01:00");
    assert_eq!((wrong.start.is_none(), reasons(&wrong)), (true, vec!["UnparseableSchedule"]));
    let zone = planned(&cron(json!({"timeZone": "Nowhere/Land"}), json!({})), &[], "00:01:00");
    assert_eq!((zone.start.is_none(), reasons(&zone)), (true, vec!["UnknownTimeZone"]));
}
