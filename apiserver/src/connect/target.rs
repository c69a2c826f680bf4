//! Names with a scheme and port: `name`, `name:port`, `scheme:name:port`.

use api::Status;

/// What a proxied name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// `http` or `https`; empty when it is left to the server.
    pub(super) scheme: &'a str,
    pub(super) name: &'a str,
    /// A number or a port's name; empty when it is left to the server.
    pub(super) port: &'a str,
}

/// Splits a proxied name. `what` is the word in the refusal.
pub(super) fn split<'a>(id: &'a str, what: &str) -> Result<Named<'a>, Status> {
    let parts: Vec<&str> = id.split(':').collect();
    let named = match parts.as_slice() {
        [name] => Named { scheme: "", name, port: "" },
        [name, port] => Named { scheme: "", name, port },
        [scheme, name, port] => Named { scheme, name, port },
        _ => Named { scheme: "", name: "", port: "" },
    };
    if named.name.is_empty() || !matches!(named.scheme, "" | "http" | "https") {
        return Err(Status::bad_request(format!("invalid {what} request {id:?}")));
    }
    Ok(named)
}
