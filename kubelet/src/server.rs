//! server
use std::sync::Arc;
pub(crate) async fn start(_kubelet: &Arc<crate::kubelet::Kubelet>) -> Result<(), crate::Error> {
    Ok(())
}
