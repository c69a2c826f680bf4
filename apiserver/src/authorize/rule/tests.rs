//! Matching and covering.

use super::*;
use crate::authorize::Resource;
use crate::request::User;

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Rule { verbs: own(verbs), groups: own(groups), resources: own(resources), names: own(names), urls: Vec::new() }
}

fn urls(verbs: &[&str], urls: &[&str]) -> Rule {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Rule { verbs: own(verbs), urls: own(urls), ..Rule::default() }
}

#[test]
fn resources_match_with_subresources_and_stars() {
    let cases = [
        (rule(&["get"], &[""], &["pods"], &[]), ("get", "", "pods", "", ""), true),
        (rule(&["get"], &[""], &["pods"], &[]), ("get", "", "pods", "log", ""), false),
        (rule(&["get"], &[""], &["pods/log"], &[]), ("get", "", "pods", "log", "x"), true),
        (rule(&["get"], &[""], &["*/scale"], &[]), ("get", "", "pods", "scale", ""), true),
        (rule(&["get"], &[""], &["*/scale"], &[]), ("get", "", "pods", "scales", ""), false),
        (rule(&["*"], &["*"], &["*"], &[]), ("escalate", "a", "b", "c", "d"), true),
        (rule(&["get"], &[""], &["pods"], &["a"]), ("get", "", "pods", "", "a"), true),
        (rule(&["get"], &[""], &["pods"], &["a"]), ("list", "", "pods", "", ""), false),
        (rule(&["list"], &[""], &["pods"], &["a"]), ("list", "", "pods", "", ""), false),
        (rule(&["get"], &["apps"], &["pods"], &[]), ("get", "", "pods", "", ""), false),
    ];
    for (rule, (verb, group, resource, subresource, name), expected) in cases {
        let target = Target::Resource(Resource { group, resource, subresource, name, ..Resource::default() });
        let asked = Attributes { user: &User::default(), verb, target };
        assert_eq!(rule.allows(&asked), expected, "{rule:?} {asked:?}");
    }
}

#[test]
fn paths_match_with_a_trailing_star() {
    for (own, path, expected) in [
        ("/healthz", "/healthz", true),
        ("/healthz/*", "/healthz/ping", true),
        ("/healthz", "/healthz/ping", false),
        ("*", "/x", true),
    ] {
        let asked = Attributes { user: &User::default(), verb: "get", target: Target::Path(path) };
        assert_eq!(urls(&["get"], &[own]).allows(&asked), expected, "{own} {path}");
    }
}

#[test]
fn what_is_missing_is_described() {
    let own = [rule(&["get", "list"], &[""], &["pods"], &[])];
    let asked = [rule(&["get", "delete", "patch"], &[""], &["pods"], &[])];
    let text = r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "patch"]}"#;
    assert_eq!(missing(&own, &asked).as_deref(), Some(text));
    assert_eq!(missing(&Rule::full_authority(), &asked), None);
    let named = [rule(&["get"], &[""], &["pods"], &["a"])];
    assert_eq!(missing(&own, &named), None);
    assert!(missing(&named, &own).is_some(), "a rule on one name does not cover all names");
    assert_eq!(missing(&[urls(&["*"], &["/a/*"])], &[urls(&["get"], &["/a/b"])]), None);
    assert_eq!(
        missing(&[rule(&["get"], &["*"], &["*/status"], &[])], &[rule(&["get"], &["x"], &["y/status"], &[])]),
        None
    );
}
