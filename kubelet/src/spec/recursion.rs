//! Whether what is mounted below a read-only volume is read-only too (KEP-3857). Pure.

use k8s_openapi::api::core::v1::VolumeMount;

/// True when it has to be. `able` says whether the runtime can.
///
/// # Errors
/// Upstream's words for a mount that asks for what it cannot have.
pub(crate) fn recursively_read_only(mount: &VolumeMount, able: bool) -> Result<bool, String> {
    let name = &mount.name;
    let mode = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(false),
        Some(mode) => mode,
    };
    let asked = format!("volume {name:?} requested recursive read-only mode, but it is not");
    if !mount.read_only.unwrap_or(false) {
        return Err(format!("{asked} read-only"));
    }
    let propagation = mount.mount_propagation.as_deref().unwrap_or("None");
    if propagation != "None" {
        return Err(format!("{asked} compatible with propagation {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(able),
        "Enabled" if able => Ok(true),
        "Enabled" => Err(format!("{asked} supported by the runtime")),
        other => Err(format!("unknown recursive read-only mode {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mounts_ask_for_and_get() {
        let asked = |what: &str| Err(format!("volume \"v\" requested recursive read-only mode, but it is not {what}"));
        for (mode, read_only, propagation, able, expected) in [
            (None, false, None, true, Ok(false)),
            (None, true, None, true, Ok(false)),
            (Some("Disabled"), true, Some("Bidirectional"), true, Ok(false)),
            (Some("IfPossible"), true, Some("None"), true, Ok(true)),
            (Some("IfPossible"), true, None, false, Ok(false)),
            (Some("IfPossible"), false, None, true, asked("read-only")),
            (Some("Enabled"), true, None, true, Ok(true)),
            (Some("Enabled"), true, None, false, asked("supported by the runtime")),
            (
                Some("Enabled"),
                true,
                Some("Bidirectional"),
                true,
                asked("compatible with propagation \"Bidirectional\""),
            ),
            (Some("x"), true, None, true, Err("unknown recursive read-only mode \"x\"".to_owned())),
        ] {
            let mount = VolumeMount {
                name: "v".into(),
                read_only: Some(read_only),
                recursive_read_only: mode.map(str::to_owned),
                mount_propagation: propagation.map(str::to_owned),
                ..VolumeMount::default()
            };
            assert_eq!(recursively_read_only(&mount, able), expected, "{mount:?} {able}");
        }
    }
}
