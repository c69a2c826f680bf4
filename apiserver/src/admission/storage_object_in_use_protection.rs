//! StorageObjectInUseProtection: volumes, claims and attributes classes stay until nobody uses them. The finalizers given
//! here are taken away by the protection controllers.

use api::{Status, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};

/// Group, resource, finalizer.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

pub(super) struct StorageObjectInUseProtection;

fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    let found = PROTECTED.iter().find(|(group, resource, _)| attributes.is(group, resource));
    found.map(|(_, _, finalizer)| *finalizer)
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && finalizer(attributes).is_some()
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let (Some(finalizer), Some(object)) = (finalizer(attributes), attributes.object.as_mut()) else {
            return Ok(());
        };
        let mut all: Vec<&str> = meta::finalizers(object).collect();
        if !all.contains(&finalizer) {
            all.push(finalizer);
            let all = json!(all);
            meta::set(object, "finalizers", all);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::tests::server_with;

    #[tokio::test]
    async fn what_can_be_in_use_is_protected() {
        let server = server_with(vec![Arc::new(StorageObjectInUseProtection)]).await;
        let claim = |finalizers: &[&str]| {
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"generateName": "c", "finalizers": finalizers},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        };
        let protection = "kubernetes.io/pvc-protection";
        for given in [vec![], vec!["example.com/mine"], vec![protection]] {
            let made = server.create("/api/v1/namespaces/n/persistentvolumeclaims", &claim(&given)).await;
            assert_eq!(made.code, 201, "{}", made.body);
            let mut expected = given.clone();
            expected.retain(|one| *one != protection);
            expected.push(protection);
            assert_eq!(made.body["metadata"]["finalizers"], json!(expected));
        }
    }
}
