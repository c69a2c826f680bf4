//! Every stored resource through every verb that discovery lists for it, with a smallest valid object.

use serde_json::json;

use super::*;

#[path = "samples.rs"]
pub(super) mod samples;

const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
const PARTIALS: (&str, &str) = ("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");

/// One resource under test.
struct Subject {
    table: &'static schema::Resource,
    collection: String,
    object: String,
    failures: Vec<String>,
}

impl Subject {
    fn new(table: &'static schema::Resource, sample: &Value) -> Self {
        let root = if table.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}/{}", table.group, table.version)
        };
        let namespace = if table.namespaced { "/namespaces/default" } else { "" };
        let collection = format!("{root}{namespace}/{}", table.name);
        let object = format!("{collection}/{}", api::meta::name(sample));
        Self { table, collection, object, failures: Vec::new() }
    }

    fn expect(&mut self, what: &str, answer: &Answer, codes: &[u16]) -> bool {
        if codes.contains(&answer.code) {
            return true;
        }
        let text = answer.body["message"].as_str().unwrap_or("no message");
        let Self { table, .. } = self;
        self.failures.push(format!("{} {}: {what}: {} {text}", table.api_version(), table.name, answer.code));
        false
    }

    async fn run(&mut self, server: &Server, sample: &Value) {
        let dry = server.create(&format!("{}?dryRun=All", self.collection), sample).await;
        self.expect("dry run", &dry, &[201]);
        let missing = server.get(&self.object).await;
        self.expect("get after dry run", &missing, &[404]);
        let made = server.create(&self.collection, sample).await;
        if !self.expect("create", &made, &[201]) {
            return;
        }
        self.reads(server, &made.body).await;
        self.writes(server).await;
        self.deletes(server, sample).await;
    }

    async fn reads(&mut self, server: &Server, made: &Value) {
        let got = server.get(&self.object).await;
        self.expect("get", &got, &[200]);
        if got.body != *made {
            self.failures.push(format!("{}: get differs from create: {} {}", self.table.name, got.body, made));
        }
        let list = server.list(&self.collection).await;
        self.expect("list", &list, &[200]);
        if list.body["kind"] != self.table.list_kind || list.body["items"].as_array().is_none_or(Vec::is_empty) {
            self.failures.push(format!("{}: list: {}", self.table.name, list.body));
        }
        let table = server.send(Verb::List, &self.collection, &[TABLE], "").await;
        self.expect("table", &table, &[200]);
        let cells = table.body["rows"][0]["cells"].as_array().map_or(0, Vec::len);
        // Upstream's row of an address has one cell more than it has columns.
        let extra = usize::from(self.table.name == "ipaddresses");
        if cells == 0 || cells > self.table.columns.len() + extra || cells < self.table.columns.len() {
            let columns = self.table.columns.len();
            self.failures.push(format!("{}: {cells} cells in {columns} columns", self.table.name));
        }
        let partials = server.send(Verb::List, &self.collection, &[PARTIALS], "").await;
        self.expect("partials", &partials, &[200]);
        if self.table.has_verb("watch") {
            let mut events = server.watch(&self.collection, &[]).await;
            let event = events.next().await.unwrap();
            if event["type"] != "ADDED" || event["object"] != *made {
                self.failures.push(format!("{}: watch: {event}", self.table.name));
            }
        }
    }

    async fn writes(&mut self, server: &Server) {
        let mut changed = server.get(&self.object).await.body;
        changed["metadata"]["labels"]["tested"] = json!("put");
        let put = server.put(&self.object, &changed).await;
        self.expect("put", &put, &[200]);
        for (kind, patch) in [
            ("merge", json!({"metadata": {"annotations": {"a": "merge"}}})),
            ("strategic-merge", json!({"metadata": {"annotations": {"b": "strategic"}}})),
            ("json", json!([{"op": "add", "path": "/metadata/annotations/c", "value": "json"}])),
        ] {
            let patched = server.patch(&self.object, kind, &patch).await;
            self.expect(kind, &patched, &[200]);
        }
        let before = server.get(&self.object).await.body;
        let again = server.put(&self.object, &before).await;
        if again.body != before {
            self.failures.push(format!("{}: a put of the same object wrote: {} {before}", self.table.name, again.body));
        }
        for subresource in ["status", "approval"] {
            if self.table.subresource(subresource).is_some() {
                let path = format!("{}/{subresource}", self.object);
                let got = server.get(&path).await;
                self.expect(subresource, &got, &[200]);
                let put = server.put(&path, &got.body).await;
                self.expect(subresource, &put, &[200]);
            }
        }
    }

    async fn deletes(&mut self, server: &Server, sample: &Value) {
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let deleted = server.delete(&self.object, &options).await;
        self.expect("delete", &deleted, &[200]);
        if self.table.has_verb("deletecollection") && server.get(&self.object).await.code == 404 {
            let made = server.create(&self.collection, sample).await;
            self.expect("create again", &made, &[201]);
            let cleared = server.send(Verb::DeleteCollection, &self.collection, &[], &options.to_string()).await;
            self.expect("deletecollection", &cleared, &[200]);
            let gone = server.get(&self.object).await;
            self.expect("get after deletecollection", &gone, &[404, 200]);
        }
    }
}

#[tokio::test]
async fn every_resource_answers_every_verb() {
    let server = server().await;
    let mut failures = Vec::new();
    for table in schema::table().resources().filter(|resource| resource.storage.is_some()) {
        if table.name == "podcertificaterequests" {
            // Its key has one form of two, where a sample has both: the tests of its admission make one.
            continue;
        }
        let sample = samples::sample(table);
        let mut subject = Subject::new(table, &sample);
        subject.run(&server, &sample).await;
        failures.append(&mut subject.failures);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Prints the steps that record upstream's answers for every resource; see `conformance/registry`.
#[test]
#[ignore = "writes steps for the recorder"]
fn print_steps() {
    for table in schema::table().resources().filter(|resource| resource.storage.is_some()) {
        let sample = samples::sample(table);
        let Subject { collection, object, .. } = Subject::new(table, &sample);
        let merge = json!({"content-type": "application/merge-patch+json"});
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let status = json!({"metadata": {"labels": {"from": "status"}}, "status": {}});
        let mut steps = vec![
            json!({"verb": "create", "path": collection, "body": {}}),
            json!({"verb": "create", "path": collection, "body": sample}),
            json!({"verb": "get", "path": object, "headers": {"accept": TABLE.1}}),
            json!({"verb": "patch", "path": object, "headers": merge, "body": label}),
            json!({"verb": "update", "path": object, "body": sample}),
            json!({"verb": "patch", "path": object, "headers": merge, "body": {"spec": {"unheard": 1}}}),
        ];
        if table.subresource("status").is_some() {
            steps.push(json!({"verb": "patch", "path": format!("{object}/status"), "headers": merge, "body": status}));
        }
        steps.push(json!({"verb": "delete", "path": object}));
        steps.push(json!({"verb": "get", "path": object}));
        steps.iter().for_each(|step| println!("STEP {step}"));
    }
}
