//! `serviceaccounts/token`: a token for an account, bound to a pod, node or secret.

use std::sync::Arc;

use api::field::{FieldErrors, Path};
use api::{GroupVersion, Status, Value, meta};
use jiff::SignedDuration;
use serde_json::json;

use super::{AUTHENTICATION, Asked, Reviews, text, texts};
use crate::authenticate::Bound;
use crate::objects::Ref;

pub(super) const KIND: &str = "TokenRequest";
const DEFAULT_SECONDS: i64 = 60 * 60;
const MIN_SECONDS: i64 = 10 * 60;
const MAX_SECONDS: i64 = 1 << 32;

impl Reviews {
    /// `TokenRequest`.
    pub(super) async fn token_request(&self, mut asked: Asked<'_>) -> Result<Value, Status> {
        let (namespace, name) = (asked.path.namespace.as_str(), asked.path.name.as_str());
        check_names(&asked.body, namespace, name)?;
        let account = self.find(Ref::namespaced("", "serviceaccounts", namespace, name)).await?;
        // Admission sees what was asked for, before it is completed: a node may leave the audience out.
        self.admit(&asked, KIND).await?;
        let seconds = self.complete(&mut asked, &account)?;
        check_seconds(seconds)?;
        let bound = self.bound(&asked.body, namespace, name).await?;
        let accounts = self.authenticator.service_accounts();
        let longest = accounts.max_seconds();
        let seconds = if longest > 0 && seconds > longest {
            let warning = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
            asked.context.warnings.add(warning);
            asked.body["spec"]["expirationSeconds"] = json!(longest);
            longest
        } else {
            seconds
        };
        let audiences = texts(&asked.body, "/spec/audiences");
        let token = accounts.issue(&account, &bound, &audiences, seconds, asked.context.now)?;
        let expires = asked.context.now + SignedDuration::from_secs(seconds);
        let mut answer = asked.body;
        answer["status"] = json!({"token": token, "expirationTimestamp": api::time::seconds(expires)});
        Ok(answer)
    }

    /// Fills what the client left out; the lifetime that is asked for.
    fn complete(&self, asked: &mut Asked<'_>, account: &Value) -> Result<i64, Status> {
        let (uid, given) = (meta::uid(account).to_owned(), meta::uid(&asked.body).to_owned());
        if !given.is_empty() && given != uid {
            let why =
                format!("the UID in the token request ({given}) does not match the UID of the service account ({uid})");
            return Err(Status::conflict(AUTHENTICATION, KIND, meta::name(account), &why));
        }
        let body = &mut asked.body;
        meta::set(body, "name", meta::name(account).into());
        meta::set(body, "namespace", meta::namespace(account).into());
        meta::set(body, "uid", uid.into());
        meta::set(body, "creationTimestamp", api::time::seconds(asked.context.now).into());
        if texts(body, "/spec/audiences").is_empty() {
            body["spec"]["audiences"] = json!(self.authenticator.service_accounts().audiences());
        }
        Ok(body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS))
    }

    async fn bound(&self, body: &Value, namespace: &str, account: &str) -> Result<Bound, Status> {
        let Some(reference) = body.pointer("/spec/boundObjectRef").filter(|value| value.is_object()) else {
            return Ok(Bound::default());
        };
        let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
        let version = GroupVersion::parse(text(reference, "/apiVersion")).unwrap_or_else(|| GroupVersion::new("", ""));
        let mut bound = Bound::default();
        let uid = match (version.group.as_str(), kind) {
            ("", "Pod") => {
                let pod = self.find(Ref::namespaced("", "pods", namespace, name)).await?;
                if text(&pod, "/spec/serviceAccountName") != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                bound.is_pod = true;
                self.add_node(text(&pod, "/spec/nodeName"), &mut bound).await;
                self.add("pod", &pod, &mut bound)
            }
            ("", "Node") => {
                let node = self.find(Ref::cluster("", "nodes", name)).await?;
                self.add("node", &node, &mut bound)
            }
            ("", "Secret") => {
                let secret = self.find(Ref::namespaced("", "secrets", namespace, name)).await?;
                self.add("secret", &secret, &mut bound)
            }
            _ => {
                let what = format!("{}/{}, Kind={kind}", version.group, version.version);
                return Err(Status::bad_request(format!("cannot bind token to object of type {what}")));
            }
        };
        let given = text(reference, "/uid");
        if !given.is_empty() && given != uid {
            let why = format!(
                "the UID in the bound object reference ({given}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(Status::conflict(&version.group, kind, name, &why));
        }
        Ok(bound)
    }

    fn add(&self, kind: &'static str, object: &Value, bound: &mut Bound) -> String {
        let uid = meta::uid(object).to_owned();
        bound.references.push((kind, meta::name(object).to_owned(), uid.clone()));
        uid
    }

    /// A node that is gone is still named, without its UID.
    async fn add_node(&self, name: &str, bound: &mut Bound) {
        if name.is_empty() {
            return;
        }
        match self.find(Ref::cluster("", "nodes", name)).await {
            Ok(node) => drop(self.add("node", &node, bound)),
            Err(_) => bound.references.push(("node", name.to_owned(), String::new())),
        }
    }

    async fn find(&self, object: Ref<'_>) -> Result<Arc<Value>, Status> {
        self.objects.get().read(object).await
    }
}

/// What a client leaves out, whoever it is for.
pub(super) fn default(body: &mut Value) {
    if !body.get("spec").is_some_and(Value::is_object) {
        body["spec"] = json!({});
    }
    if body["spec"]["expirationSeconds"].is_null() {
        body["spec"]["expirationSeconds"] = json!(DEFAULT_SECONDS);
    }
}

fn check_names(body: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let fields = [
        ("name", meta::name(body), name, "must match the service account name if specified"),
        ("namespace", meta::namespace(body), namespace, "must match the service account namespace if specified"),
    ];
    for (field, given, expected, detail) in fields {
        if !given.is_empty() && given != expected {
            let mut errors = FieldErrors::new();
            errors.invalid(&Path::new("metadata").child(field), json!(given), detail);
            return Err(Status::invalid(AUTHENTICATION, KIND, name, &errors));
        }
    }
    Ok(())
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let detail = match seconds {
        short if short < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        long if long > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("spec").child("expirationSeconds"), json!(seconds), detail);
    Err(Status::invalid(AUTHENTICATION, KIND, "", &errors))
}
