//! Who am I, and whose token is this?

use api::{Status, Value};
use serde_json::{Map, json};

use super::{Asked, Reviews, text, texts};
use crate::request::{Context, User};

/// `SelfSubjectReview`.
pub(super) fn self_subject_review(context: &Context) -> Value {
    json!({
        "metadata": {"creationTimestamp": api::time::seconds(context.now)},
        "status": {"userInfo": user_info(&context.user)},
    })
}

impl Reviews {
    /// `TokenReview`.
    pub(super) async fn token_review(&self, asked: Asked<'_>) -> Result<Value, Status> {
        let token = text(&asked.body, "/spec/token").to_owned();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        self.admit(&asked, "TokenReview").await?;
        let mut audiences = texts(&asked.body, "/spec/audiences");
        if audiences.is_empty() {
            audiences = self.authenticator.service_accounts().audiences().to_vec();
        }
        let mut answer = asked.body;
        answer["status"] = match self.authenticator.token(&token, &audiences, asked.context.now).await {
            // A token for others than those who were asked about proves nothing to them.
            Ok(Some(found)) if found.audiences.is_empty() && !audiences.is_empty() => {
                json!({"user": {}, "error": "invalid bearer token"})
            }
            Ok(Some(found)) => {
                found.warning.into_iter().for_each(|text| asked.context.warnings.add(text));
                json!({"authenticated": true, "user": user_info(&found.user), "audiences": found.audiences})
            }
            Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
            Err(error) => json!({"user": {}, "error": error}),
        };
        Ok(answer)
    }
}

fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            info.insert(field.to_owned(), json!(text));
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}
