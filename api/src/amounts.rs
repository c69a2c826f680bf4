//! Amounts of resources by name, as Go's `ResourceList`.

use std::collections::BTreeMap;

use crate::quantity::Quantity;
use crate::{Map, Value};

/// Amounts by resource name, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a map of quantities. What is no quantity is left out.
    pub fn read(value: Option<&Value>) -> Self {
        let entries = value.and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
    }

    /// The map of quantities as it is stored.
    pub fn to_value(&self) -> Value {
        let texts = self.0.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
        Value::Object(texts.collect::<Map<String, Value>>())
    }

    /// One amount.
    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.0.get(name)
    }

    /// Sets an amount.
    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Names and amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), amount))
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the amounts of another list; a name that is new here keeps the other's text.
    pub fn add(&mut self, more: &Self) {
        for (name, amount) in &more.0 {
            match self.0.get_mut(name) {
                Some(own) => own.add(amount),
                None => drop(self.0.insert(name.clone(), amount.clone())),
            }
        }
    }

    /// Raises each amount to the other list's where that is greater.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|own| own < amount) {
                self.0.insert(name.clone(), amount.clone());
            }
        }
    }

    /// What is here and not in `less`, never below zero; every name of both is in the result.
    pub fn without(&self, less: &Self) -> Self {
        let mut rest = self.clone();
        for (name, amount) in &mut rest.0 {
            if let Some(less) = less.get(name) {
                amount.sub(less);
            }
            if amount.sign() < 0 {
                *amount = Quantity::zero();
            }
        }
        for name in less.names() {
            rest.0.entry(name.to_owned()).or_insert_with(Quantity::zero);
        }
        rest
    }

    /// Keeps the names that pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Quantity) -> bool) {
        self.0.retain(|name, amount| keep(name, amount));
    }

    /// The amounts whose names pass.
    #[must_use]
    pub fn only(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, _)| keep(name));
        kept.map(|(name, amount)| (name.clone(), amount.clone())).collect()
    }
}

impl FromIterator<(String, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, Quantity)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Extend<(String, Quantity)> for Amounts {
    fn extend<I: IntoIterator<Item = (String, Quantity)>>(&mut self, entries: I) {
        self.0.extend(entries);
    }
}

/// `cpu=1,memory=2Gi`, as messages have it.
impl std::fmt::Display for Amounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amounts(value: Value) -> Amounts {
        Amounts::read(Some(&value))
    }

    #[test]
    fn sums_differences_and_bounds() {
        let mut sum = amounts(json!({"cpu": "500m", "pods": 1}));
        sum.add(&amounts(json!({"cpu": "700m", "memory": "1024Mi"})));
        assert_eq!(sum.to_string(), "cpu=1200m,memory=1Gi,pods=1");
        let rest = sum.without(&amounts(json!({"cpu": 2, "pods": 1, "services": 3})));
        assert_eq!(rest.to_string(), "cpu=0,memory=1Gi,pods=0,services=0");
        sum.raise(&amounts(json!({"cpu": "1", "pods": "4"})));
        assert_eq!(sum.only(|name| name != "memory").to_value(), json!({"cpu": "1200m", "pods": "4"}));
    }
}
