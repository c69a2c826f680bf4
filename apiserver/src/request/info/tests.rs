//! Upstream's table (`requestinfo_test.go`), and what it leaves out.

use super::*;

type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

/// Method, URL, verb, namespace, resource, subresource, name.
const CASES: &[Case<'_>] = &[
    ("GET", "/api/v1/namespaces", "list", "", "namespaces", "", ""),
    ("GET", "/api/v1/namespaces/other", "get", "other", "namespaces", "", "other"),
    ("GET", "/api/v1/namespaces/other/pods", "list", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods/foo", "get", "other", "pods", "", "foo"),
    ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "other", "pods", "", "foo"),
    ("GET", "/api/v1/pods", "list", "", "pods", "", ""),
    ("HEAD", "/api/v1/pods", "list", "", "pods", "", ""),
    ("GET", "/api/v1/proxy/namespaces/other/pods/foo", "proxy", "other", "pods", "", "foo"),
    ("GET", "/api/v1/proxy/namespaces/other/pods/foo/subpath/not/a", "proxy", "other", "pods", "", "foo"),
    ("GET", "/api/v1/watch/pods", "watch", "", "pods", "", ""),
    ("GET", "/api/v1/pods?watch=true", "watch", "", "pods", "", ""),
    ("GET", "/api/v1/pods?watch=false", "list", "", "pods", "", ""),
    ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=1", "watch", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=0", "list", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods/foo/status", "get", "other", "pods", "status", "foo"),
    ("GET", "/api/v1/namespaces/other/pods/foo/proxy/subpath", "get", "other", "pods", "proxy", "foo"),
    ("PUT", "/api/v1/namespaces/other/finalize", "update", "other", "namespaces", "finalize", "other"),
    ("PUT", "/api/v1/namespaces/other/status", "update", "other", "namespaces", "status", "other"),
    ("PATCH", "/api/v1/namespaces/other/pods/foo", "patch", "other", "pods", "", "foo"),
    ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", "other", "pods", "", "foo"),
    ("POST", "/api/v1/namespaces/other/pods", "create", "other", "pods", "", ""),
    ("DELETE", "/api/v1/nodes", "deletecollection", "", "nodes", "", ""),
    ("DELETE", "/api/v1/namespaces", "deletecollection", "", "namespaces", "", ""),
    ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection", "other", "pods", "", ""),
    ("DELETE", "/apis/extensions/v1/namespaces/other/pods", "deletecollection", "other", "pods", "", ""),
    ("POST", "/apis/extensions/v1beta3/namespaces/other/pods", "create", "other", "pods", "", ""),
    ("GET", "/apis/g/v/r?fieldSelector=metadata.name%3Dname1", "list", "", "r", "", "name1"),
    ("GET", "/apis/g/v/r?watch=true&fieldSelector=metadata.name=name1", "watch", "", "r", "", "name1"),
    ("GET", "/apis/g/v/r?fieldSelector=foo=bar", "list", "", "r", "", ""),
    ("GET", "/apis/g/v/r?fieldSelector=metadata.name=name1,foo", "list", "", "r", "", ""),
    ("GET", "/apis/g/v/r?fieldSelector=metadata.name=a%2Fb", "list", "", "r", "", ""),
    ("OPTIONS", "/api/v1/nodes/n/proxy/x", "", "", "nodes", "proxy", "n"),
    (
        "GET",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        "get",
        "",
        "clusterroles",
        "",
        "system:node",
    ),
];

#[test]
fn resources_are_told_apart() {
    for (method, url, verb, namespace, resource, subresource, name) in CASES {
        let found = resource_path(method, url);
        let seen = (found.verb.word(), &*found.namespace, &*found.resource, &*found.subresource, &*found.name);
        assert_eq!(seen, (*verb, *namespace, *resource, *subresource, *name), "{method} {url}");
    }
}

#[test]
fn groups_and_versions_are_read() {
    let found = resource_path("GET", "/apis/extensions/v1beta3/namespaces/other/pods");
    assert_eq!((&*found.group, &*found.version), ("extensions", "v1beta3"));
    let found = resource_path("GET", "/api/v1/pods");
    assert_eq!((&*found.group, &*found.version), ("", "v1"));
}

#[test]
fn other_paths_are_paths() {
    let paths = [
        "/",
        "",
        "/api",
        "/api/version",
        "/api/version/",
        "/apis/group/version/",
        "/apis/extensions/v1beta1",
        "/badprefix/version/resource",
        "/apis/version/resource",
        "/not-api/version/resource",
    ];
    for path in paths {
        let target = parse(&Method::GET, path, &[]).unwrap();
        assert_eq!(target, Target::Path { verb: "get".to_owned(), path: path.to_owned() });
    }
}

#[test]
fn a_watch_of_nothing_is_refused() {
    assert!(parse(&Method::GET, "/api/v1/watch", &[]).is_err());
}

#[test]
fn tails_keep_their_slashes_and_encoding() {
    let tails = [
        ("/api/v1/namespaces/n/pods/p/proxy", ""),
        ("/api/v1/namespaces/n/pods/p/proxy/", "/"),
        ("/api/v1/namespaces/n/pods/p/proxy/a%2Fb/c/", "/a%2Fb/c/"),
        ("/api/v1/namespaces/n/services/https:s:8/proxy/x?y=z", "/x"),
    ];
    for (url, tail) in tails {
        assert_eq!(resource_path("GET", url).tail, tail, "{url}");
    }
}

fn resource_path(method: &str, url: &str) -> ResourcePath {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match parse(&Method::from_bytes(method.as_bytes()).unwrap(), path, &query).unwrap() {
        Target::Resource(found) => found,
        Target::Path { .. } => panic!("{url} is no resource"),
    }
}
