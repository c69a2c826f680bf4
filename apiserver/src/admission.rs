//! Admission: plug-ins that change or refuse a write after it is authorized and before it is stored.
//!
//! Each plug-in is one file under `admission/` and one line in the table of plug-ins. The write pipeline calls every
//! `admit`, in the table's order, then validation, then every `validate`; nothing else calls them and nothing
//! writes without them.

mod certificates;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod persistent_volume_claim_resize;
mod plugins;
mod pod_certificates;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;

pub use self::plugins::plugins;
use crate::request::{Context, ResourcePath};

/// What a write does, as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// A removed object.
    Delete,
    /// An upgrade: exec, attach, port-forward, proxy.
    Connect,
}

/// A write on its way through admission.
pub struct Attributes<'a> {
    /// The request.
    pub context: &'a Context,
    /// Its path, with the object's name filled in when it is known.
    pub path: &'a ResourcePath,
    /// The kind of `object`.
    pub kind: &'a str,
    /// What is done.
    pub operation: Operation,
    /// The new object; the options for [`Operation::Connect`]; None for a delete.
    pub object: Option<Value>,
    /// The stored object, for update and delete; read inside the same guaranteed update.
    pub old: Option<&'a Value>,
    /// Nothing will be stored.
    pub dry_run: bool,
}

impl Attributes<'_> {
    /// The write is on this resource itself.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.is_part(group, resource, "")
    }

    /// The write is on this subresource.
    pub fn is_part(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.path.group == group && self.path.resource == resource && self.path.subresource == subresource
    }

    /// The object's name; what its name will begin with when it is to be generated.
    pub fn name(&self) -> &str {
        if !self.path.name.is_empty() {
            return &self.path.name;
        }
        let object = self.object.as_ref();
        let fields = ["name", "generateName"];
        let texts = fields.iter().map(|field| object.map_or("", |object| meta::text(object, field)));
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or("Unknown")
    }

    /// 403 on the object; `why` follows `is forbidden: `.
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.path.group, &self.path.resource, self.name(), why)
    }
}

/// One plug-in.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, such as `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    /// The plug-in has something to say about this write.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes the object.
    ///
    /// # Errors
    /// Refuses the write.
    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Looks at the final object.
    ///
    /// # Errors
    /// Refuses the write.
    async fn validate(&self, _attributes: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// The plug-ins of a server, in order. The write pipeline's only way into admission. Clones share the plug-ins.
#[derive(Clone, Default)]
pub struct Chain(Arc<[Arc<dyn Plugin>]>);

impl Chain {
    /// The first plug-in is asked first.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self(plugins.into())
    }

    /// Lets every plug-in change the object. The caller applies defaults and prunes again afterwards.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        for plugin in self.0.iter() {
            if plugin.handles(attributes) {
                plugin.admit(attributes).await?;
            }
        }
        Ok(())
    }

    /// Shows every plug-in the final object, after the kind's own validation.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        for plugin in self.0.iter() {
            if plugin.handles(attributes) {
                plugin.validate(attributes).await?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|plugin| plugin.name())).finish()
    }
}
