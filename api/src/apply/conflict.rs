//! What an apply may not take from others without force.

use crate::status::{Cause, Details};
use crate::{Reason, Status};

/// One path that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As in messages: `"kubectl" using v1`.
    pub manager: String,
    /// The path: `.data.k`.
    pub path: String,
    /// What sorts managers.
    pub(super) identity: String,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 500: upstream has no class for it.
    #[error("{0}")]
    Other(String),
    /// 409.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::BadRequest(message) => Status::bad_request(message),
            Error::Other(message) => Status::new(Reason::Unknown(500), message),
            Error::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.path.clone(),
                });
                let details = Details { causes: causes.collect(), ..Details::default() };
                Status::new(Reason::Conflict, message(&conflicts)).with_details(details)
            }
        }
    }
}

fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let mut lines = Vec::new();
    for same in conflicts.chunk_by(|a, b| a.identity == b.identity) {
        lines.push(format!("conflicts with {}:", same[0].manager));
        lines.extend(same.iter().map(|conflict| format!("- {}", conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
