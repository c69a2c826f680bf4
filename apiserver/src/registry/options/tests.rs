//! Options of requests: what is read and what is refused.

use super::*;
use crate::registry::tests::context;

#[test]
fn list_options_follow_upstreams_rules() {
    let cases = [
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("resourceVersionMatch=Some&resourceVersion=1", "supported values: \"Exact\", \"NotOlderThan\", \"\""),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        (
            "continue=x&resourceVersion=1&resourceVersionMatch=Exact",
            "resourceVersionMatch is forbidden when continue is provided",
        ),
    ];
    for (query, expected) in cases {
        let refused = ListOptions::read(&context(query), false).unwrap_err();
        assert!(refused.message.contains(expected), "{query}: {}", refused.message);
        assert_eq!(refused.reason, api::Reason::Invalid, "{query}");
    }
    let options = ListOptions::read(&context("limit=5&labelSelector=a=b&resourceVersion=7"), false).unwrap();
    assert_eq!((options.limit, options.revision()), (5, Ok(7)));
}

#[test]
fn a_watch_from_the_beginning_sends_what_there_is() {
    for (query, expected) in [
        ("", Some(true)),
        ("resourceVersion=0", Some(true)),
        ("resourceVersion=5", None),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Some(false)),
    ] {
        let options = ListOptions::read(&context(query), true).unwrap();
        assert_eq!(options.send_initial_events, expected, "{query}");
    }
    let refused = ListOptions::read(&context("sendInitialEvents=true"), true).unwrap_err();
    assert!(refused.message.contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
}

#[test]
fn dry_run_knows_one_value() {
    assert!(WriteOptions::read(&context("dryRun=All"), "CreateOptions").unwrap().dry_run);
    let refused = WriteOptions::read(&context("dryRun=Some"), "CreateOptions").unwrap_err();
    assert!(refused.message.contains("dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""));
}

#[test]
fn delete_options_are_checked() {
    let both = serde_json::json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
    let refused = DeleteOptions::from_tree(&both).unwrap_err();
    assert!(refused.message.contains("orphanDependents and deletionPropagation cannot be both set"));
    let options = DeleteOptions::from_query(&context("gracePeriodSeconds=3&propagationPolicy=Foreground")).unwrap();
    assert_eq!(options.grace_period_seconds, Some(3));
    assert_eq!(options.propagation, Some(Propagation::Foreground));
}
