//! The one place where a failure of the store becomes a [`Status`].

use api::{Reason, Status};
use store::Error;

/// What an operation was about, for its refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
    /// `create`, `update`, `delete`.
    pub(crate) operation: &'a str,
}

/// A failed read.
pub(crate) fn read(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::Future { requested, current } => too_large(*requested, *current),
        Error::Closed | Error::Unavailable { .. } => unavailable(error),
        other => Status::internal(other),
    }
}

/// A revision that has not happened yet.
pub(crate) fn too_large(requested: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
    let cause = "Too large resource version";
    Status::new(Reason::Timeout, message).with_cause("ResourceVersionTooLarge", cause, "").retry_after(1)
}

/// A failed write. Conflicts are the caller's to retry or refuse.
pub(crate) fn write(error: &Error, subject: Subject<'_>) -> Status {
    let Subject { group, resource, name, operation } = subject;
    match error {
        Error::NotFound { .. } => Status::not_found(group, resource, name),
        Error::Conflict { .. } if operation == "create" => Status::already_exists(group, resource, name),
        Error::Conflict { .. } => Status::modified(group, resource, name),
        Error::TooLarge { .. } | Error::TransactionTooLarge { .. } => {
            let message = format!("Request entity too large: {error}");
            Status::new(Reason::RequestEntityTooLarge, message)
        }
        Error::Unavailable { .. } => server_timeout(subject),
        Error::Closed => unavailable(error),
        other => Status::internal(other),
    }
}

fn server_timeout(subject: Subject<'_>) -> Status {
    let Subject { group, resource, operation, .. } = subject;
    let what = api::names::qualified(resource, group);
    let message =
        format!("The {operation} operation against {what} could not be completed at this time, please try again.");
    let details = api::status::Details::of(group, resource, operation);
    Status::new(Reason::ServerTimeout, message).with_details(details).retry_after(2)
}

fn unavailable(error: &Error) -> Status {
    Status::new(Reason::ServiceUnavailable, error.to_string())
}
