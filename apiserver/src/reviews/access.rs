//! May somebody do something, and what may I do at all?

use api::field::{FieldErrors, Path};
use api::{Status, Value};
use serde_json::{Map, json};

use super::{AUTHORIZATION, Asked, Reviews, text, texts};
use crate::authorize::{Attributes, Authorizer as _, Decision, Resource, Ruling, Target};
use crate::request::User;

const ONE_OF: &str = "exactly one of nonResourceAttributes or resourceAttributes must be specified";

impl Reviews {
    pub(super) fn subject_access_review(&self, asked: Asked<'_>) -> Result<Value, Status> {
        let mut errors = FieldErrors::new();
        check_target(&asked.body, &mut errors);
        check_subject(&asked.body, &mut errors);
        check_metadata(&asked.body, &[], "must be empty", &mut errors);
        refuse(&errors)?;
        Ok(self.answered(asked.body, None))
    }

    pub(super) fn local_subject_access_review(&self, asked: Asked<'_>) -> Result<Value, Status> {
        let mut body = asked.body;
        let namespace = asked.path.namespace.as_str();
        if api::meta::namespace(&body).is_empty() {
            api::meta::set(&mut body, "namespace", namespace.into());
        }
        let mut errors = FieldErrors::new();
        check_target(&body, &mut errors);
        check_subject(&body, &mut errors);
        check_metadata(&body, &["namespace"], "must be empty except for namespace", &mut errors);
        let own = api::meta::namespace(&body).to_owned();
        let asked_namespace = text(&body, "/spec/resourceAttributes/namespace").to_owned();
        let spec = Path::new("spec");
        if present(&body, "resourceAttributes") && asked_namespace != own {
            let attributes = spec.child("resourceAttributes");
            errors.invalid(&attributes.child("namespace"), json!(asked_namespace), "must match metadata.namespace");
        }
        if present(&body, "nonResourceAttributes") {
            let value = path_attributes(&body);
            errors.invalid(&spec.child("nonResourceAttributes"), value, "disallowed on this kind of request");
        }
        refuse(&errors)?;
        if own != namespace {
            let message = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
            return Err(Status::bad_request(message));
        }
        Ok(self.answered(body, None))
    }

    pub(super) fn self_subject_access_review(&self, asked: Asked<'_>) -> Result<Value, Status> {
        let mut errors = FieldErrors::new();
        check_target(&asked.body, &mut errors);
        check_metadata(&asked.body, &[], "must be empty", &mut errors);
        refuse(&errors)?;
        Ok(self.answered(asked.body, Some(&asked.context.user)))
    }

    pub(super) fn self_subject_rules_review(&self, asked: Asked<'_>) -> Result<Value, Status> {
        let namespace = text(&asked.body, "/spec/namespace");
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let rules = self.authorizer.rules(&asked.context.user, namespace);
        let mut status = json!({
            "resourceRules": rules.resources,
            "nonResourceRules": rules.paths,
            "incomplete": rules.incomplete,
        });
        if !rules.error.is_empty() {
            status["evaluationError"] = json!(rules.error);
        }
        Ok(json!({"metadata": {}, "spec": {}, "status": status}))
    }

    /// Fills the status of a review. `user` is the caller for a question about the caller.
    fn answered(&self, mut body: Value, user: Option<&User>) -> Value {
        let subject;
        let user = match user {
            Some(user) => user,
            None => {
                subject = subject_of(&body);
                &subject
            }
        };
        let (ruling, problem) = self.rule(&body, user);
        let mut status = Map::new();
        status.insert("allowed".to_owned(), json!(ruling.is_allowed()));
        if ruling.decision == Decision::Deny {
            status.insert("denied".to_owned(), json!(true));
        }
        let errors: Vec<&str> =
            [ruling.error.as_str(), problem.as_str()].into_iter().filter(|e| !e.is_empty()).collect();
        for (field, text) in [("reason", ruling.reason.clone()), ("evaluationError", errors.join("; "))] {
            if !text.is_empty() {
                status.insert(field.to_owned(), json!(text));
            }
        }
        body["status"] = Value::Object(status);
        body
    }

    fn rule(&self, body: &Value, user: &User) -> (Ruling, String) {
        let spec = body.get("spec").cloned().unwrap_or_default();
        if let Some(path) = spec.get("nonResourceAttributes").filter(|value| value.is_object()) {
            let target = Target::Path(text(path, "/path"));
            return (self.authorizer.authorize(&Attributes { user, verb: text(path, "/verb"), target }), String::new());
        }
        let asked = spec.get("resourceAttributes").cloned().unwrap_or_default();
        let (fields, problem) = field_selector(&asked);
        let resource = Resource {
            group: text(&asked, "/group"),
            version: text(&asked, "/version"),
            namespace: text(&asked, "/namespace"),
            resource: text(&asked, "/resource"),
            subresource: text(&asked, "/subresource"),
            name: text(&asked, "/name"),
            fields: &fields,
            labels: text(&asked, "/labelSelector/rawSelector"),
        };
        let target = Target::Resource(resource);
        (self.authorizer.authorize(&Attributes { user, verb: text(&asked, "/verb"), target }), problem)
    }
}

/// The field selector of a question, in its raw form, and what of it could not be understood.
fn field_selector(asked: &Value) -> (String, String) {
    let raw = text(asked, "/fieldSelector/rawSelector");
    if !raw.is_empty() {
        return match api::selector::FieldSelector::parse(raw) {
            Ok(_) => (raw.to_owned(), String::new()),
            Err(error) => {
                (String::new(), format!("spec.resourceAttributes.fieldSelector ignored due to parse error: {error}"))
            }
        };
    }
    let requirements = asked.pointer("/fieldSelector/requirements").and_then(Value::as_array);
    let terms = requirements.into_iter().flatten().filter_map(|requirement| {
        let values = texts(requirement, "/values");
        let sign = match text(requirement, "/operator") {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        let [value] = values.as_slice() else {
            return None;
        };
        Some(format!("{}{sign}{value}", text(requirement, "/key")))
    });
    (terms.collect::<Vec<_>>().join(","), String::new())
}

fn subject_of(body: &Value) -> User {
    let extra = body.pointer("/spec/extra").and_then(Value::as_object).into_iter().flatten();
    let values =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    User {
        name: text(body, "/spec/user").to_owned(),
        uid: text(body, "/spec/uid").to_owned(),
        groups: texts(body, "/spec/groups"),
        extra: extra.map(|(key, value)| (key.clone(), values(value))).collect(),
    }
}

fn present(body: &Value, field: &str) -> bool {
    body.pointer(&format!("/spec/{field}")).is_some_and(Value::is_object)
}

fn check_target(body: &Value, errors: &mut FieldErrors) {
    if present(body, "resourceAttributes") == present(body, "nonResourceAttributes") {
        errors.invalid(&Path::new("spec"), path_attributes(body), ONE_OF);
    }
    let path = Path::new("spec");
    let path = path.child("resourceAttributes");
    for field in ["fieldSelector", "labelSelector"] {
        let selector = body.pointer(&format!("/spec/resourceAttributes/{field}"));
        if let Some(selector) = selector.filter(|selector| selector.is_object()) {
            check_selector(selector, field == "labelSelector", &path.child(field), errors);
        }
    }
}

/// Operators that are not known may be a newer client's.
fn check_selector(selector: &Value, of_labels: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let raw = text(selector, "/rawSelector");
    let requirements = selector.get("requirements").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let at_requirements = path.child("requirements");
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let detail = "may not specified at the same time as requirements";
            errors.invalid(&path.child("rawSelector"), raw, detail);
        }
        (true, true) => {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.required(&at_requirements, &detail);
        }
        _ => {}
    }
    for (index, requirement) in requirements.iter().enumerate() {
        check_requirement(requirement, of_labels, &at_requirements.index(index), errors);
    }
}

fn check_requirement(requirement: &Value, of_labels: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let (key, values) = (text(requirement, "/key"), texts(requirement, "/values"));
    match text(requirement, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&path.child("values"), detail);
        }
        _ => {}
    }
    if !of_labels {
        if key.is_empty() {
            errors.required(&path.child("key"), "must be specified");
        }
        return;
    }
    kinds::object_meta::label_key(key, &path.child("key"), errors);
    for (index, value) in values.iter().enumerate() {
        let complaints = kinds::names::label_value(value);
        kinds::object_meta::invalid_each(&path.child("values").index(index), value, complaints, errors);
    }
}

fn check_subject(body: &Value, errors: &mut FieldErrors) {
    if text(body, "/spec/user").is_empty() && texts(body, "/spec/groups").is_empty() {
        errors.invalid(&Path::new("spec").child("user"), json!(""), "at least one of user or group must be specified");
    }
}

fn check_metadata(body: &Value, allowed: &[&str], detail: &str, errors: &mut FieldErrors) {
    let metadata = api::meta::metadata(body).into_iter().flatten();
    let is_extra = |(key, value): &(&String, &Value)| {
        *key != "managedFields" && !allowed.contains(&key.as_str()) && !value.is_null()
    };
    if metadata.into_iter().any(|entry| is_extra(&entry)) {
        errors.invalid(&Path::new("metadata"), body["metadata"].clone(), detail);
    }
}

/// Upstream's decoded reviews have lost their kind, so its refusals name none.
fn refuse(errors: &FieldErrors) -> Result<(), Status> {
    if errors.0.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(AUTHORIZATION, "", "", errors))
}

/// The attributes of a path, with Go's names of their fields.
fn path_attributes(body: &Value) -> Value {
    match body.pointer("/spec/nonResourceAttributes").filter(|value| value.is_object()) {
        Some(asked) => json!({"Path": text(asked, "/path"), "Verb": text(asked, "/verb")}),
        None => Value::Null,
    }
}
