//! What the keeper of conditions wants, by the changes that it has seen.

use super::*;

fn schema(name: &str, level: &str, revision: u64) -> Value {
    json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": revision.to_string()},
        "spec": {"priorityLevelConfiguration": {"name": level}},
    })
}

fn level(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn known(changes: impl IntoIterator<Item = (bool, Change)>) -> Known {
    let mut known = Known::default();
    changes.into_iter().for_each(|(is_schema, change)| known.apply(is_schema, change));
    known
}

fn put(object: Value) -> Change {
    Change::Put(Arc::new(object))
}

#[test]
fn a_schema_dangles_until_its_level_exists() {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let mut known = known([(true, put(schema("a", "p", 1))), (true, Change::Synced), (true, put(schema("b", "q", 2)))]);
    assert_eq!(known.wanted(now), [], "the levels have not been seen yet");
    known.apply(false, put(level("q")));
    known.apply(false, Change::Synced);
    let said = |name: &str, status: &str, reason: &str, rest: &str, level: &str| {
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}");
        let condition = json!({
            "type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        });
        (name.to_owned(), condition)
    };
    let a = said("a", "True", "NotFound", "but there is no such object", "p");
    let b = said("b", "False", "Found", "and it exists", "q");
    assert_eq!(known.wanted(now), [a.clone(), b]);

    known.apply(false, put(level("p")));
    known.apply(true, Change::Deleted(Arc::new(schema("b", "q", 3))));
    let mut written = schema("a", "p", 4);
    written["status"] = json!({"conditions": [a.1]});
    known.put_schema(Arc::new(written.clone()));
    let found = said("a", "False", "Found", "and it exists", "p");
    assert_eq!(known.wanted(now), std::slice::from_ref(&found), "it says that the level is missing");

    written["status"]["conditions"][0] = found.1;
    written["metadata"]["resourceVersion"] = json!("5");
    known.put_schema(Arc::new(written));
    known.apply(true, put(schema("a", "p", 3)));
    assert_eq!(known.wanted(now), [], "an older state that comes late is no news");
}

#[test]
fn nobody_fights_for_long() {
    let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
    let mut keeper = Keeper { objects: Handle::default(), known: Known::default(), written: BTreeMap::new() };
    for second in 0..6 {
        assert!(!keeper.is_fighting("a", at(second)));
        keeper.written.entry("a".to_owned()).or_default().push(at(second));
    }
    assert!(keeper.is_fighting("a", at(6)) && !keeper.is_fighting("b", at(6)));
    assert!(!keeper.is_fighting("a", at(60)), "the first was a minute ago");
    assert!(!keeper.is_fighting("a", at(600)) && keeper.written.is_empty());
}
