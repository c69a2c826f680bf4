//! Ingress classes.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::names;
use crate::networking::backend::reference;
use crate::object_meta::{immutable, invalid_each};
use crate::rows;
use crate::strategy::{Generation, Request, Strategy};
use crate::tree::{at, default_to, dig, enter_some, has, opt_text, some, text};

/// The ingress class strategy.
#[derive(Debug)]
pub(crate) struct IngressClass;

const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
const CONTROLLER_MAX: usize = 250;

impl Strategy for IngressClass {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter_some(object, "spec");
        if let Some(parameters) = spec.and_then(|spec| enter_some(spec, "parameters")) {
            default_to(parameters, "scope", "Cluster");
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let controller = |object| dig(object, &["spec", "controller"]);
        let spec = Path::new("spec");
        immutable(controller(new), controller(old), &spec.child("controller"), errors);
        validate(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let default = meta::annotation(object, DEFAULT_CLASS) == Some("true");
        let parameters = some(spec, "parameters").map_or(rows::NONE.to_owned(), |parameters| {
            let group = opt_text(parameters, "apiGroup").map(|group| format!(".{group}"));
            format!("{}{}/{}", text(parameters, "kind"), group.unwrap_or_default(), text(parameters, "name"))
        });
        Some(vec![
            json!(format!("{}{}", meta::name(object), if default { " (default)" } else { "" })),
            json!(text(spec, "controller")),
            json!(parameters),
            rows::age(object, now),
        ])
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let (controller, at_controller) = (text(spec, "controller"), path.child("controller"));
    if controller.len() > CONTROLLER_MAX {
        errors.too_long(&at_controller, CONTROLLER_MAX);
    }
    names::domain_prefixed_path(controller, &at_controller, errors);
    let Some(parameters) = some(spec, "parameters") else {
        return;
    };
    let path = path.child("parameters");
    reference(parameters, &path, errors);
    let Some(scope) = opt_text(parameters, "scope") else {
        errors.required(&path.child("scope"), "");
        return;
    };
    let at_namespace = path.child("namespace");
    match (scope, opt_text(parameters, "namespace")) {
        ("Namespace", None) => errors.required(&at_namespace, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(name)) => invalid_each(&at_namespace, name, names::label(name), errors),
        ("Cluster", _) if has(parameters, "namespace") => {
            errors.forbidden(&at_namespace, "`parameters.scope` is set to 'Cluster'");
        }
        ("Cluster", _) => {}
        _ => errors.not_supported(&path.child("scope"), scope, &["Cluster", "Namespace"]),
    }
}
