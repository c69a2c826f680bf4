//! The process's environment: the only reads of it.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The running executable.
pub(crate) fn executable() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find the running executable")
}

/// Where kubectl looks: the first file of `KUBECONFIG`, or `~/.kube/config`.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty()) {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("neither KUBECONFIG nor HOME is set; name a file with --kubeconfig")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// The sockets that this process was handed, with their names.
pub(crate) fn handed_in() -> Result<Vec<(String, std::net::TcpListener)>> {
    let Ok(count) = std::env::var("LISTEN_FDS") else {
        return Ok(Vec::new());
    };
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    host::inherited_sockets(&count, &names).context("cannot take the handed-in sockets")
}

/// This machine's host name, lower case, as node names are.
pub(crate) fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}
