//! Selectors as text.

use super::*;

#[test]
fn selectors() {
    let both = json!({
        "matchLabels": {"b": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "a", "operator": "DoesNotExist"},
        ],
    });
    assert_eq!(selector(&both), "!a,b=1,c in (x,y)");
    assert_eq!(selector(&json!({})), "<none>");
    assert_eq!(labels(&json!({"s": {"a": "b", "c": "d"}}), "s"), "a=b,c=d");
}
