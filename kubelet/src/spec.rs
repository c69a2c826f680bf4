//! From a pod's spec to what the runtime is asked for. Pure: what has to be looked up is handed in.

pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod fields;
pub(crate) mod hosts;
pub(crate) mod recursion;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;
