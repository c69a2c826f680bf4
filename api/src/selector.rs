//! Label and field selectors: parsed once at the door, matched many times.
//!
//! Errors carry upstream's text, because they end in a 400 that clients show.

mod parse;

use std::fmt;

use crate::Value;

/// A conjunction of label requirements. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What the label has to be.
    pub operator: Operator,
}

/// What a label has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// One of these values.
    In(Vec<String>),
    /// Absent or none of these values.
    NotIn(Vec<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// An integer above this.
    GreaterThan(i64),
    /// An integer below this.
    LessThan(i64),
}

/// A selector's text, or a selector object, that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl LabelSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads the form of a query parameter: `a=b,c in (x,y),!d,e`.
    ///
    /// # Errors
    /// With upstream's text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { requirements: parse::labels(text)? })
    }

    /// Reads `matchLabels` and `matchExpressions`. An empty object selects everything; the caller decides what an
    /// absent one means.
    ///
    /// # Errors
    /// When an expression's operator or values are not valid.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let mut requirements = Self::from_map(selector.get("matchLabels")).requirements;
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Reads a plain map of labels, as a Service's or a ReplicationController's selector.
    pub fn from_map(labels: Option<&Value>) -> Self {
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let equal = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.as_str().unwrap_or("").to_owned()]),
        };
        Self { requirements: labels.map(equal).collect() }
    }

    /// Nothing is required.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, all of which have to hold.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Matches labels that `get` looks up.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.operator.holds(get(&r.key)))
    }

    /// Matches `metadata.labels` of an object.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.is_everything() || self.matches(|key| crate::meta::label(object, key))
    }
}

impl Operator {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Self::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or("");
    let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    let values: Vec<String> = values.filter_map(Value::as_str).map(str::to_owned).collect();
    let operator = match text("operator") {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    if matches!(&operator, Operator::In(v) | Operator::NotIn(v) if v.is_empty()) {
        let detail = "for 'in', 'notin' operators, values set can't be empty";
        return Err(SelectorError(format!("values: Invalid value: []: {detail}")));
    }
    Ok(Requirement { key: text("key").to_owned(), operator })
}

/// The form of a query parameter, keys sorted, as a Scale's `status.selector` has it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Operator::In(values) => write!(f, "{key} in ({})", sorted(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", sorted(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

fn sorted(values: &[String]) -> String {
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.sort_unstable();
    values.join(",")
}

/// A conjunction of field requirements. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One requirement on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// The field's path, such as `spec.nodeName`.
    pub field: String,
    /// What it is compared with.
    pub value: String,
    /// `=` rather than `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Reads `a.b=c,d!=e`; `\` escapes a comma, an equals sign and itself.
    ///
    /// # Errors
    /// With upstream's text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { terms: parse::fields(text)? })
    }

    /// Nothing is required.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms, all of which have to hold.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value that a field is required to be equal to.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Matches fields that `get` looks up; an absent field is empty.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (get(&t.field).unwrap_or("") == t.value) == t.equal)
    }
}

#[cfg(test)]
mod tests;
