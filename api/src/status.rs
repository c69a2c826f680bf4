//! `Status`: the one error that a client can see, as an answer's body.
//!
//! Every refusal is made by one of the constructors here, so that reason, code, details and message agree.
//! Only the API server turns it into an HTTP answer; clients branch on [`Reason`], never on the message.

use serde_json::{Value, json};

use crate::{field::FieldErrors, names::qualified};

/// Why a request was refused: `status.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400.
    BadRequest,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 409, the name is taken.
    AlreadyExists,
    /// 409, the object has changed.
    Conflict,
    /// 410, the content is gone for good.
    Gone,
    /// 410, the revision is too old.
    Expired,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422.
    Invalid,
    /// 429.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 500, try again.
    ServerTimeout,
    /// 503.
    ServiceUnavailable,
    /// 504.
    Timeout,
    /// A code without a reason.
    Unknown(u16),
}

impl Reason {
    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
            Self::Unknown(code) => code,
        }
    }

    /// The word on the wire; empty for [`Reason::Unknown`].
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServerTimeout => "ServerTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::Unknown(_) => "",
        }
    }
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A field cause's reason, such as `FieldValueRequired`, or another cause type.
    pub reason: String,
    /// The text.
    pub message: String,
    /// The field, when there is one.
    pub field: String,
}

/// What a refusal is about: `status.details`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The plural resource; the kind for [`Reason::Invalid`].
    pub kind: String,
    /// The object's UID.
    pub uid: String,
    /// The single causes.
    pub causes: Vec<Cause>,
    /// When to try again; also sent as `Retry-After`.
    pub retry_after_seconds: Option<u32>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// About what; boxed, because errors travel in every `Result`.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`, for an expired list.
    pub continue_token: Option<String>,
}

impl Status {
    /// A refusal without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: None, continue_token: None }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Adds one cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = Cause { reason: reason.to_owned(), message: message.into(), field: field.to_owned() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Asks the client to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 403 on an object; `why` follows `is forbidden: `.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let subject = subject(group, resource, name);
        let message = format!("{subject} is forbidden: {why}");
        Self::new(Reason::Forbidden, message).with_details(Details::of(group, resource, name))
    }

    /// 404 on an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::new(Reason::NotFound, message).with_details(Details::of(group, resource, name))
    }

    /// 404 on a path that nothing serves.
    pub fn unknown_path() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource").with_details(Details::default())
    }

    /// 405.
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(resource, group));
        Self::new(Reason::MethodNotAllowed, message).with_details(Details::of(group, resource, ""))
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Self::new(Reason::AlreadyExists, message).with_details(Details::of(group, resource, name))
    }

    /// 409: `why` follows `Operation cannot be fulfilled on …: `.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group));
        Self::new(Reason::Conflict, message).with_details(Details::of(group, resource, name))
    }

    /// 409: the caller's object is not the newest.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// 410.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 422 with every field error as a cause. `kind` is the kind, such as `Pod`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        // Each error is a cause, and its text is said once.
        let texts: indexmap::IndexSet<String> = errors.0.iter().map(ToString::to_string).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let what = match texts.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid{what}", qualified(kind, group));
        let causes = errors.0.iter().map(|e| Cause {
            reason: e.kind.reason().to_owned(),
            message: e.message.clone(),
            field: e.field.clone(),
        });
        let details = Details { causes: causes.collect(), ..Details::of(group, kind, name) };
        Self::new(Reason::Invalid, message).with_details(details)
    }

    /// 500; `message` follows `Internal error occurred: `.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let text = message.to_string();
        let status = Self::new(Reason::InternalError, format!("Internal error occurred: {text}"));
        status.with_cause("", text, "")
    }

    /// The body, without a trailing newline.
    pub fn to_value(&self) -> Value {
        let mut metadata = json!({});
        if let Some(token) = &self.continue_token {
            metadata["continue"] = json!(token);
        }
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata,
            "status": "Failure", "message": self.message, "code": self.reason.code(),
        });
        if !self.reason.word().is_empty() {
            body["reason"] = json!(self.reason.word());
        }
        if let Some(details) = &self.details {
            body["details"] = details.to_value();
        }
        body
    }
}

impl Details {
    /// Names an object; empty parts are left out of the body.
    pub fn of(group: &str, kind: &str, name: &str) -> Self {
        Self { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), ..Self::default() }
    }

    fn to_value(&self) -> Value {
        let mut body = json!({});
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            body[field] = json!(text);
        }
        if !self.causes.is_empty() {
            body["causes"] = self.causes.iter().map(Cause::to_value).collect();
        }
        if let Some(seconds) = self.retry_after_seconds {
            body["retryAfterSeconds"] = json!(seconds);
        }
        body
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut body = json!({});
        let texts = [("reason", &self.reason), ("message", &self.message), ("field", &self.field)];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            body[name] = json!(text);
        }
        body
    }
}

fn subject(group: &str, resource: &str, name: &str) -> String {
    let resource = qualified(resource, group);
    if name.is_empty() { resource } else { format!("{resource} {name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn invalid_lists_every_cause() {
        let mut errors = FieldErrors::new();
        errors.required(&Path::new("spec").child("a"), "");
        errors.forbidden(&Path::new("spec").child("b"), "no");
        errors.required(&Path::new("spec").child("a"), "");
        let status = Status::invalid("apps", "Deployment", "x", &errors);
        assert_eq!(status.message, "Deployment.apps \"x\" is invalid: [spec.a: Required value, spec.b: Forbidden: no]");
        let body = status.to_value();
        assert_eq!(body["code"], 422);
        assert_eq!(body["details"]["causes"][1]["reason"], "FieldValueForbidden");
        assert_eq!(body["details"]["kind"], "Deployment");
        assert_eq!(body["details"]["causes"].as_array().map(Vec::len), Some(3), "each error is a cause");
    }

    #[test]
    fn not_found_names_group_and_resource() {
        let body = Status::not_found("apps", "deployments", "x").to_value();
        assert_eq!(body["message"], "deployments.apps \"x\" not found");
        assert_eq!(body["details"], json!({"name": "x", "group": "apps", "kind": "deployments"}));
    }
}
