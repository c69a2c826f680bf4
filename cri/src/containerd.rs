//! containerd, through CRI v1 and its own API.

mod archive;
mod attach;
mod client;
mod content;
mod events;
mod exec;
mod import;
mod lease;
mod overlay;
mod settings;
mod unpack;
mod volume;

pub use client::Containerd;
pub use settings::{Settings, Snapshotter, choose_snapshotter, command, config_toml, oom_score_is_restricted};

/// Where CRI keeps everything of its own inside containerd.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// A request in CRI's namespace.
pub(crate) fn namespaced<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(NAMESPACE));
    request
}
