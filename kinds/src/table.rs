//! Which strategy a resource has. Adding a kind is a file and one line here.

use crate::core::pod::Pod;
use crate::plain::Plain;
use crate::strategy::Strategy;

/// The strategy of a built-in resource; a plain one for resources not listed.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match (group, resource) {
        ("", "pods") => &Pod,
        _ => &Plain,
    }
}
