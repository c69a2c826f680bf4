//! Selectors as clients write them.

use serde_json::json;

use super::*;

#[test]
fn label_selectors_match() {
    let object = json!({"metadata": {"labels": {"app": "web", "tier": "3", "empty": ""}}});
    let cases = [
        ("", true),
        ("app=web", true),
        ("app==web,tier=3", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (a, web)", true),
        ("app notin (a,b)", true),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("tier>2", true),
        ("tier<3", false),
        ("empty=", true),
        ("empty in (,x)", true),
        ("app = web , tier", true),
    ];
    for (text, expected) in cases {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches_object(&object), expected, "{text}");
    }
}

#[test]
fn label_selectors_print_as_parsed() {
    for text in ["app=web", "a in (x,y),b!=c", "!d,e"] {
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn bad_label_selectors_say_what_is_wrong() {
    let error = LabelSelector::parse("app=web,").unwrap_err().to_string();
    assert_eq!(error, "unable to parse requirement: found '', expected: identifier after ','");
    for text in ["=", "a in b", "a in (b", "a b", "a==_", "-x=1", "a>b"] {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn selector_objects_are_read() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["a"]}, {"key": "x", "operator": "Exists"}]});
    let selector = LabelSelector::from_object(&selector).unwrap();
    assert_eq!(selector.to_string(), "app=web,tier!=a,x");
    let bad = json!({"matchExpressions": [{"key": "x", "operator": "Has"}]});
    assert_eq!(LabelSelector::from_object(&bad).unwrap_err().0, "\"Has\" is not a valid label selector operator");
}

#[test]
fn field_selectors_match() {
    let get = |field: &str| match field {
        "metadata.name" => Some("x"),
        "odd" => Some("a,b=c"),
        _ => None,
    };
    let cases = [
        ("metadata.name=x", true),
        ("metadata.name==y", false),
        ("metadata.name!=y,missing=", true),
        (r"odd=a\,b\=c", true),
    ];
    for (text, expected) in cases {
        assert_eq!(FieldSelector::parse(text).unwrap().matches(get), expected, "{text}");
    }
    let error = FieldSelector::parse("nonsense").unwrap_err().0;
    assert_eq!(error, "invalid selector: 'nonsense'; can't understand 'nonsense'");
}
