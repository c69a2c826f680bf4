//! What resources the server has, in the version it prefers of each.

use std::collections::BTreeSet;

use kube::{Client, api::ApiResource, core::discovery::v2::APIGroupDiscoveryList};

use crate::{Error, error::During as _};

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    pub(crate) api: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) verbs: BTreeSet<String>,
}

impl Resource {
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.contains(*verb))
    }
}

/// The resources found, and the group versions whose resources could not be found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<Resource>,
    pub(crate) failed: Vec<String>,
}

/// Asks the server for all resources.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Error> {
    let core = client.list_core_api_versions_aggregated().await.during("discover", "core resources")?;
    let groups = client.list_api_groups_aggregated().await.during("discover", "resources")?;
    let mut found = Discovered::default();
    collect(core, &mut found);
    collect(groups, &mut found);
    Ok(found)
}

/// A resource in several versions of a group counts in the first that has it: versions come in order of preference.
fn collect(list: APIGroupDiscoveryList, found: &mut Discovered) {
    for item in list.items {
        let group = item.metadata.and_then(|meta| meta.name).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for version in item.versions {
            let name = version.version.unwrap_or_default();
            let api_version = if group.is_empty() { name.clone() } else { format!("{group}/{name}") };
            if version.freshness.as_deref() == Some("Stale") {
                found.failed.push(api_version);
                continue;
            }
            for resource in version.resources {
                let Some(plural) = resource.resource.filter(|plural| seen.insert(plural.clone())) else { continue };
                let kind = resource.response_kind.unwrap_or_default();
                found.resources.push(Resource {
                    api: ApiResource {
                        group: group.clone(),
                        version: name.clone(),
                        api_version: api_version.clone(),
                        kind: kind.kind.unwrap_or_default(),
                        plural,
                    },
                    namespaced: resource.scope.as_deref() == Some("Namespaced"),
                    verbs: resource.verbs.into_iter().collect(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_preferred_version_counts() {
        let resource = |name: &str, kind: &str| {
            json!({"resource": name, "responseKind": {"group": "", "version": "", "kind": kind},
                "scope": "Namespaced", "verbs": ["list", "delete"]})
        };
        let list = json!({"items": [
            {"metadata": {"name": "batch"}, "versions": [
                {"version": "v1", "resources": [resource("jobs", "Job")]},
                {"version": "v1beta1", "resources": [resource("jobs", "Job"), resource("cronjobs", "CronJob")]}]},
            {"metadata": {"name": "broken.example"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
        ]});
        let mut found = Discovered::default();
        collect(serde_json::from_value(list).unwrap(), &mut found);
        let names: Vec<_> =
            found.resources.iter().map(|it| (it.api.api_version.as_str(), it.api.plural.as_str())).collect();
        assert_eq!(names, [("batch/v1", "jobs"), ("batch/v1beta1", "cronjobs")]);
        assert_eq!(found.failed, ["broken.example/v1"]);
        assert!(found.resources[0].can(&["list", "delete"]) && !found.resources[0].can(&["watch"]));
    }
}
