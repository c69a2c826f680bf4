//! DefaultStorageClass and DefaultIngressClass: an object that names no class gets the default one.

use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const STORAGE_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const STORAGE_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_DEFAULT: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Claims.
pub(super) struct DefaultStorageClass(pub(super) Handle);

/// Ingresses.
pub(super) struct DefaultIngressClass(pub(super) Handle);

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(claim) = attributes.object.as_mut() else {
            return Ok(());
        };
        if meta::find(claim, "/spec/storageClassName").is_some()
            || meta::annotation(claim, STORAGE_ANNOTATION).is_some()
        {
            return Ok(());
        }
        if let Some(class) = default_of(&self.0, ["storage.k8s.io", "storageclasses"], &STORAGE_DEFAULT) {
            claim["spec"]["storageClassName"] = json!(meta::name(&class));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(ingress) = attributes.object.as_mut() else {
            return Ok(());
        };
        if meta::find(ingress, "/spec/ingressClassName").is_some()
            || meta::annotation(ingress, INGRESS_ANNOTATION).is_some()
        {
            return Ok(());
        }
        if let Some(class) = default_of(&self.0, ["networking.k8s.io", "ingressclasses"], &INGRESS_DEFAULT) {
            ingress["spec"]["ingressClassName"] = json!(meta::name(&class));
        }
        Ok(())
    }
}

/// The newest of the classes that are marked; of equally old ones the first by name.
fn default_of(objects: &Handle, [group, resource]: [&str; 2], marks: &[&str]) -> Option<Arc<Value>> {
    let classes = objects.get().list(Ref::collection(group, resource, ""));
    let is_default = |class: &Arc<Value>| marks.iter().any(|mark| meta::annotation(class, mark) == Some("true"));
    classes.into_iter().filter(is_default).min_by(|a, b| {
        let age = |class: &Value| meta::text(class, "creationTimestamp").to_owned();
        age(b).cmp(&age(a)).then_with(|| meta::name(a).cmp(meta::name(b)))
    })
}
