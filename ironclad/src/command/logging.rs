//! Flags about what is logged.

use anyhow::Result;

/// The client library reports at `error` what its callers report, and handle, themselves.
const DEFAULT: &str = "info,kube_client::client::builder=off";

/// What is logged, and how it looks.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to log: a level, or a list such as info,kubelet=debug
    #[arg(long, global = true, default_value = DEFAULT, env = "IRONCLAD_LOG")]
    log: String,
    /// How a log line looks
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: daemon::logging::Format,
}

impl Args {
    pub(super) fn init(&self) -> Result<()> {
        Ok(daemon::logging::init(&self.log, self.log_format)?)
    }
}
