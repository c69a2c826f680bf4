//! Kernel settings that a node's network needs.

use std::path::Path;

use tracing::warn;

/// Forwarding between pods and the rest, and rules that see what passes a bridge.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// Sets what is not set yet. What cannot be set is said and left: the administrator may have other means.
pub(super) fn apply() {
    for (name, wanted) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        match std::fs::read_to_string(&path) {
            Ok(value) if value.trim() == wanted => {}
            Ok(_) => set(&path, wanted),
            Err(error) => warn!(setting = name, %error, "not available: pods may not reach services"),
        }
    }
}

fn set(path: &Path, wanted: &str) {
    if let Err(error) = std::fs::write(path, wanted) {
        warn!(path = %path.display(), wanted, %error, "cannot change a kernel setting");
    }
}
