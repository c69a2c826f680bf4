//! How long a request may take.

use std::time::Duration;

use api::{Reason, Status};

use super::{Context, HeaderMap, Target, header, headers};
use crate::request::Verb;

/// Upstream's `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

const LONG_SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];

/// The request has no end of its own: a watch, a connection, a log.
pub(super) fn is_long_running(target: &Target, headers: &HeaderMap) -> bool {
    match target {
        Target::Resource(path) => {
            matches!(path.verb, Verb::Watch | Verb::Proxy) || LONG_SUBRESOURCES.contains(&path.subresource.as_str())
        }
        Target::Path { path, .. } => {
            path.starts_with("/debug/pprof/") || !headers::text(headers, header::UPGRADE).is_empty()
        }
    }
}

/// The deadline of a request; None when it has none.
pub(super) fn of(context: &Context, long_running: bool) -> Result<Option<Duration>, Status> {
    if long_running {
        return Ok(None);
    }
    let Some(text) = context.param("timeout").filter(|text| !text.is_empty()) else {
        return Ok(Some(REQUEST_TIMEOUT));
    };
    let invalid = || {
        Status::bad_request(format!("invalid timeout specified in the request URL - time: invalid duration {text:?}"))
    };
    let asked = api::time::go_duration(text).ok_or_else(invalid)?;
    let asked = if asked.is_zero() { REQUEST_TIMEOUT } else { asked };
    Ok(Some(asked.min(REQUEST_TIMEOUT)))
}

/// 504.
pub(super) fn exceeded() -> Status {
    let message = "Timeout: request did not complete within the allotted timeout";
    Status::new(Reason::Timeout, message).with_details(api::status::Details::default())
}
