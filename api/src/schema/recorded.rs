//! Objects that a fresh upstream server holds, recorded without their volatile metadata.

use serde_json::Value;

/// The default ClusterRoles, ClusterRoleBindings, Roles and RoleBindings.
pub fn rbac() -> Vec<Value> {
    parse(include_str!("../../data/rbac.json"))
}

/// The default FlowSchemas and PriorityLevelConfigurations.
pub fn flow_control() -> Vec<Value> {
    parse(include_str!("../../data/flowcontrol.json"))
}

/// Everything else: namespaces, the `kubernetes` service, its IP address and range, APIServices, priority classes.
pub fn bootstrap() -> Vec<Value> {
    parse(include_str!("../../data/bootstrap.json"))
}

fn parse(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the generator writes lists of objects")
}
