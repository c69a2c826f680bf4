//! Logging to standard error through `tracing`.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter could not be read, or logging was set up before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See `tracing_subscriber::EnvFilter` for the syntax.
    #[error("cannot read the log filter {filter:?}")]
    Filter {
        /// As given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Only `main` sets up logging.
    #[error("logging was set up twice")]
    Twice,
}

/// Sets up logging for the process. `filter` is a directive list such as `info` or `info,kubelet=debug`.
///
/// # Errors
/// When the filter cannot be read, or logging was set up before.
pub fn init(filter: &str, format: Format) -> Result<(), Error> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let done = match format {
        Format::Text => registry
            .with(
                fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).with_target(true),
            )
            .try_init(),
        Format::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    done.map_err(|_| Error::Twice)
}
