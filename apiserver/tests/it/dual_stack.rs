//! Services of a cluster with two families: what upstream's API server answers to a story, ours answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use testkit::etcd::{Cluster, Release};
use tokio::task::block_in_place;

use crate::shared::{MERGE, Pair, Side};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const BLOCK: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";

/// How long a repair may take.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(20);

/// The specs of new services.
fn creations() -> Vec<Vec<Value>> {
    let alone = |spec: Value| vec![spec];
    let headless = |spec: Value| {
        let mut spec = spec;
        spec["clusterIP"] = json!("None");
        vec![spec]
    };
    let selector = json!({"app": "x"});
    let one = ["10.96.7.1", "fd00:96::71"];
    vec![
        alone(json!({})),
        alone(json!({"ipFamilyPolicy": "PreferDualStack"})),
        alone(json!({"ipFamilyPolicy": "RequireDualStack"})),
        alone(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]})),
        alone(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]})),
        alone(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]})),
        alone(json!({"ipFamilies": ["IPv6"]})),
        alone(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]})),
        alone(json!({"ipFamilies": ["IPv6", "IPv4"]})),
        alone(json!({"ipFamilies": ["IPv4", "IPv4"]})),
        alone(json!({"ipFamilies": ["IPv5"]})),
        alone(json!({"ipFamilyPolicy": "Both"})),
        alone(json!({"clusterIP": one[1]})),
        alone(json!({"clusterIPs": one})),
        alone(json!({"clusterIP": one[0], "clusterIPs": one})),
        alone(json!({"clusterIP": one[1], "clusterIPs": [one[1], one[0]], "ipFamilyPolicy": "PreferDualStack"})),
        alone(json!({"clusterIP": one[0], "clusterIPs": [one[0]], "ipFamilyPolicy": "RequireDualStack"})),
        alone(json!({"clusterIP": one[0], "clusterIPs": [one[0], "10.96.7.2"], "ipFamilyPolicy": "RequireDualStack"})),
        alone(json!({"clusterIP": one[0], "clusterIPs": [one[0]], "ipFamilies": ["IPv6"]})),
        alone(json!({"clusterIP": "fd00:97::1"})),
        alone(json!({"clusterIP": "10.96.0.1", "ipFamilyPolicy": "RequireDualStack"})),
        alone(json!({"type": "ExternalName", "externalName": "x.example.com", "ipFamilies": ["IPv4"]})),
        headless(json!({})),
        headless(json!({"ipFamilyPolicy": "SingleStack"})),
        headless(json!({"ipFamilies": ["IPv6"]})),
        headless(json!({"selector": selector})),
        headless(json!({"selector": selector, "ipFamilyPolicy": "PreferDualStack"})),
        headless(json!({"selector": selector, "ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"})),
        headless(json!({"selector": selector, "ipFamilies": ["IPv6", "IPv4"]})),
    ]
}

/// Services that change.
fn changes() -> Vec<Vec<Value>> {
    let selector = json!({"app": "x"});
    let one = ["10.96.7.1", "fd00:96::71"];
    vec![
        vec![
            json!({}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!({"ipFamilies": ["IPv4"]}),
            json!({"ipFamilies": ["IPv6", "IPv4"]}),
            json!({"ipFamilyPolicy": "SingleStack"}),
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}),
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            json!({"ipFamilies": null, "ipFamilyPolicy": null}),
        ],
        vec![
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!({"type": "NodePort"}),
            json!({"type": "ExternalName", "externalName": "x.example.com"}),
            json!({"type": "ClusterIP", "externalName": null, "ipFamilyPolicy": "PreferDualStack"}),
        ],
        vec![
            json!({"clusterIP": one[0], "clusterIPs": [one[0]]}),
            json!({"clusterIPs": one}),
            json!({"clusterIPs": one, "ipFamilyPolicy": "RequireDualStack"}),
            json!({"clusterIPs": [one[0], "fd00:96::72"]}),
            json!({"clusterIPs": [one[0]]}),
            json!({"clusterIPs": [one[0]], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            json!({"clusterIP": "10.96.7.3"}),
        ],
        vec![
            json!({"clusterIP": "None", "selector": selector}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            json!({"ipFamilyPolicy": "SingleStack"}),
            json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            json!({"clusterIP": null, "clusterIPs": null}),
        ],
    ]
}

/// Addresses as what they are of: which ones are given out is nobody's promise.
fn shown(text: &str) -> String {
    let four = regex::Regex::new(r"10\.96\.\d+\.\d+").unwrap();
    let six = regex::Regex::new(r"fd00:96::[0-9a-f:]*").unwrap();
    six.replace_all(&four.replace_all(text, "four"), "six").into_owned()
}

/// The code and what was answered.
fn told((code, body): &(StatusCode, Value), name: &str) -> String {
    let spec = &body["spec"];
    let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "type"].map(|field| &spec[field]);
    let told = if spec.is_null() { body["message"].to_string() } else { json!(fields).to_string() };
    format!("{} {}", code.as_u16(), shown(&told).replace(name, "story"))
}

/// Every step as a dry run and in earnest.
async fn tell(side: &Side, story: &[Value]) -> Vec<String> {
    // What upstream loses may not stand under the name of ours.
    let name = format!("story-{}", side.name);
    let one = format!("{SERVICES}/{name}");
    let mut all = Vec::new();
    for (number, part) in story.iter().enumerate() {
        for query in ["?dryRun=All", ""] {
            let answer = if number == 0 {
                let mut spec = part.clone();
                spec["ports"] = json!([{"port": 80}]);
                let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
                side.send("POST", &format!("{SERVICES}{query}"), "application/json", &service).await
            } else {
                side.send("PATCH", &format!("{one}{query}"), MERGE, &json!({"spec": part})).await
            };
            all.push(told(&answer, &name));
            if side.name == "ours" {
                check_held(side, &name).await;
            }
        }
    }
    let (code, answer) = side.send("DELETE", &one, "application/json", &Value::Null).await;
    all.push(told(&(code, json!({"message": answer["message"]})), &name));
    all
}

/// A service has the objects of its addresses and no others. Upstream loses some of a write that it refuses, and its repair
/// takes away those that a service gets in the second of its creation: ours puts them back.
async fn check_held(side: &Side, name: &str) {
    let deadline = Instant::now() + REPAIR_TIMEOUT;
    loop {
        let (_, found) = side.get(&format!("{SERVICES}/{name}")).await;
        let (_, list) = side.get(ADDRESSES).await;
        let of_it = |address: &&Value| address["spec"]["parentRef"]["name"] == name;
        let held = list["items"].as_array().unwrap().iter().filter(of_it).map(|address| &address["metadata"]["name"]);
        let ips = found["spec"]["clusterIPs"].as_array().into_iter().flatten().filter(|ip| *ip != "None");
        let (held, ips): (BTreeSet<_>, BTreeSet<_>) =
            (held.map(Value::to_string).collect(), ips.map(Value::to_string).collect());
        if held == ips {
            return;
        }
        assert!(Instant::now() < deadline, "{held:?}: {found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn compare(ranges: &str) {
    let etcd = block_in_place(|| Cluster::start(Release::V3_7, 1)).unwrap();
    let pair = Pair::start(&etcd, ranges, &[]).await;
    let (theirs, ours) = (&pair.theirs, &pair.ours);
    let cidrs: Vec<&str> = ranges.split(',').collect();
    for side in [theirs, ours] {
        assert_eq!(side.get(BLOCK).await.1["spec"]["cidrs"], json!(cidrs), "{}", side.name);
    }
    let mut differences = Vec::new();
    // The spec of a new service, and the patches that follow.
    let stories = [creations(), changes()].concat();
    for story in &stories {
        // In this order: an address that upstream has lost would be one that ours has not got to have.
        let our = tell(ours, story).await;
        let their = tell(theirs, story).await;
        for (number, (their, our)) in their.iter().zip(&our).enumerate().filter(|(_, (their, our))| their != our) {
            differences.push(format!("{story:?}, answer {number}:\n  upstream {their}\n  ours     {our}"));
        }
    }
    println!("{} stories with {ranges}, {} differences", stories.len(), differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_two_families_are_upstreams() {
    compare("10.96.0.0/16,fd00:96::/112").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_two_families_are_upstreams_when_the_other_is_the_default() {
    compare("fd00:96::/112,10.96.0.0/16").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_one_family_are_upstreams() {
    compare("10.96.0.0/16").await;
}
