//! Whether decoding would leave a tree as it is: asked without making anything.

use serde_json::Value;

use super::normal;
use super::scalar::{self, Token};
use super::table;
use super::types::{Shape, Type, TypeId};

/// True when [`super::decode_value`] would give the same tree back. False is no promise: a shape that decoding has to look
/// at more closely is never settled.
pub fn is_settled(value: &Value, id: TypeId) -> bool {
    is_object(table().get(id), value)
}

fn is_object(of: &Type, value: &Value) -> bool {
    let Value::Object(entries) = value else { return false };
    // Both are in the order of their names.
    let mut entries = entries.iter().peekable();
    let mut fields = of.by_name().map(|(field, _)| field);
    let settled = fields.all(|field| {
        let value = entries.next_if(|(name, _)| *name == field.name).map(|(_, value)| value);
        normal::stays(of, field, value) && value.is_none_or(|value| value.is_null() || fits(&field.shape, value))
    });
    // What is left has a name that the type does not know.
    settled && entries.next().is_none()
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Null) => false,
        (Shape::Json | Shape::Raw | Shape::FieldsV1, _) => true,
        (Shape::Ref(id), value) => is_object(table().get(*id), value),
        (Shape::List { item, .. }, Value::Array(items)) => items.iter().all(|value| fits(item, value)),
        (Shape::Map(item), Value::Object(entries)) => entries.values().all(|value| fits(item, value)),
        (_, Value::Array(_) | Value::Object(_)) => false,
        (Shape::String | Shape::IntOrString | Shape::Duration, Value::String(_)) => true,
        (shape, value) => {
            token(value).and_then(|token| scalar::read(shape, token, None).ok()).is_some_and(|read| read == *value)
        }
    }
}

/// A value as decoding reads it.
fn token(value: &Value) -> Option<Token<'_>> {
    Some(match value {
        Value::Bool(on) => Token::Bool(*on),
        Value::String(text) => Token::Text(text.as_str().into()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Token::Unsigned(number),
            (None, Some(number)) => Token::Signed(number),
            (None, None) => Token::Float(number.as_f64()?),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{decode_value, recorded, table};
    use super::*;

    fn pod() -> TypeId {
        table().type_of("", "v1", "Pod").unwrap()
    }

    fn decoded(value: &Value, id: TypeId) -> Option<Value> {
        decode_value(value.clone(), id).ok().map(|decoded| decoded.value)
    }

    /// Whatever is called settled is what decoding gives; what decoding gives is settled, unless it holds a value of a
    /// shape that is never called so.
    #[test]
    fn what_decoding_leaves_is_settled() {
        for object in recorded::rbac().iter() {
            let text = |field: &str| object[field].as_str().unwrap().to_owned();
            let version = crate::GroupVersion::parse(&text("apiVersion")).unwrap();
            let id = table().type_of(&version.group, &version.version, &text("kind")).unwrap();
            let once = decoded(object, id).unwrap();
            assert!(is_settled(&once, id), "{once}");
            assert_eq!(decoded(&once, id).as_ref(), Some(&once));
        }
    }

    #[test]
    fn what_decoding_changes_is_not_settled() {
        let container = |more: Value| {
            let mut container = json!({"name": "a", "resources": {}});
            container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": [container]}, "status": {}})
        };
        let base = container(json!({}));
        let base = decoded(&base, pod()).unwrap();
        assert!(is_settled(&base, pod()), "{base}");
        let kept = [
            json!({"image": "i", "env": [{"name": "A", "value": "1"}]}),
            json!({"resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}}),
            json!({"ports": [{"containerPort": 80, "protocol": "TCP"}]}),
            json!({"livenessProbe": {"httpGet": {"port": "http"}}, "startupProbe": {"httpGet": {"port": 80}}}),
            json!({"securityContext": {"runAsUser": 0, "privileged": false}}),
        ];
        for more in kept {
            let object = decoded(&container(more), pod()).unwrap();
            assert!(is_settled(&object, pod()), "{object}");
        }
        let changed = [
            json!({"unknown": 1}),
            json!({"image": ""}),
            json!({"image": null}),
            json!({"env": []}),
            json!({"env": [null]}),
            json!({"env": {}}),
            json!({"image": 5}),
            json!({"stdin": false}),
            json!({"resources": null}),
            json!({"resources": {"limits": {"cpu": 1}}}),
            json!({"resources": {"limits": {"cpu": "0.1"}}}),
            json!({"resources": {"limits": {"cpu": "1000m"}}}),
            json!({"ports": [{"containerPort": 80.0}]}),
            json!({"ports": [{"containerPort": 4_294_967_296_u64}]}),
            json!({"ports": [{"name": "http"}]}),
            json!({"livenessProbe": {"httpGet": {}}}),
        ];
        for more in changed {
            let mut object = base.clone();
            let container = object["spec"]["containers"][0].as_object_mut().unwrap();
            container.extend(more.as_object().unwrap().clone());
            assert!(!is_settled(&object, pod()), "{more}");
            assert_ne!(decoded(&object, pod()).as_ref(), Some(&object), "{more}");
        }
        let mut object = base.clone();
        object["spec"]["containers"][0].as_object_mut().unwrap().remove("resources");
        assert!(!is_settled(&object, pod()));
        for time in ["2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05+00:00", "0001-01-01T00:00:00Z", "today"] {
            let mut object = base.clone();
            object["metadata"]["creationTimestamp"] = time.into();
            assert!(!is_settled(&object, pod()), "{time}");
        }
        let mut object = base;
        object["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z".into();
        assert!(is_settled(&object, pod()));
    }
}
