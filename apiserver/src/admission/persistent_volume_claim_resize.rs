//! PersistentVolumeClaimResize: a claim grows only where its class says that it can.

use api::quantity::Quantity;
use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize(pub(super) Handle);

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&attributes.object, attributes.old) else {
            return Ok(());
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if meta::find(old, "/status/phase").and_then(Value::as_str) != Some("Bound") {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let name = class(new);
        let found = self.0.get().get(Ref::cluster("storage.k8s.io", "storageclasses", name));
        let allows = found.and_then(|class| class.get("allowVolumeExpansion")?.as_bool()).unwrap_or(false);
        if allows && !name.is_empty() && name == class(old) {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}

fn size(claim: &Value) -> Quantity {
    let size = meta::find(claim, "/spec/resources/requests/storage");
    size.and_then(|size| Quantity::from_value(size).ok()).unwrap_or_else(Quantity::zero)
}

fn class(claim: &Value) -> &str {
    let annotated = meta::annotation(claim, CLASS_ANNOTATION);
    annotated.or_else(|| meta::find(claim, "/spec/storageClassName")?.as_str()).unwrap_or_default()
}
