//! Whether a write fits into quotas, and what they are with it. Pure.

use std::sync::Arc;

use api::amounts::Amounts;
use api::quota::{Evaluator, Measured, Requirement, Write};
use api::{Value, meta};
use jiff::Timestamp;

/// A quota as it stands.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    pub(super) name: String,
    /// What the status says is allowed.
    hard: Amounts,
    pub(super) used: Amounts,
    requirements: Vec<Requirement>,
    tree: Arc<Value>,
}

impl Quota {
    pub(super) fn read(tree: Arc<Value>) -> Self {
        let list = |field: &str| Amounts::read(meta::find(&tree, &format!("/status/{field}")));
        Self {
            name: meta::name(&tree).to_owned(),
            hard: list("hard"),
            used: list("used"),
            requirements: Requirement::all_of(&tree),
            tree,
        }
    }

    /// The object with what is used now.
    pub(super) fn charged_tree(&self) -> Value {
        let mut tree = (*self.tree).clone();
        tree["status"]["used"] = self.used.to_value();
        tree
    }

    fn is_about(&self, evaluator: &Evaluator, measured: &Measured) -> bool {
        evaluator.matches(self.hard.names(), &self.requirements, measured)
    }
}

/// No quota is used more or less in one list than in the other.
pub(super) fn same_use(some: &[Quota], others: &[Quota]) -> bool {
    some.iter().zip(others).all(|(one, other)| one.used == other.used)
}

/// A write, measured.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    evaluator: Evaluator,
    object: Value,
    measured: Measured,
    /// The stored object, which has been charged already.
    before: Option<Measured>,
    /// A status says what is so: it is counted and not refused.
    is_status: bool,
}

impl Charge {
    pub(super) fn new(evaluator: Evaluator, write: &Write<'_>) -> Self {
        Self {
            measured: evaluator.measure(write.new),
            before: write.old.map(|old| evaluator.measure(old)),
            object: write.new.clone(),
            is_status: write.subresource == "status",
            evaluator,
        }
    }

    /// The quotas with this write charged to them; or why it is refused, as clients are told.
    pub(super) fn against(&self, quotas: &[Quota], now: Timestamp) -> Result<Vec<Quota>, String> {
        for quota in quotas.iter().filter(|quota| quota.is_about(&self.evaluator, &self.measured)) {
            self.check_constraints(quota)?;
        }
        let usage = self.measured.usage(now);
        let negative: Vec<&str> = usage.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name).collect();
        if !negative.is_empty() {
            return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
        }
        quotas.iter().map(|quota| self.charge_one(quota, usage, now)).collect()
    }

    fn check_constraints(&self, quota: &Quota) -> Result<(), String> {
        let restricted = self.evaluator.matching(quota.hard.names());
        let checked = self.evaluator.check(&restricted, &self.object);
        checked.map_err(|why| format!("failed quota: {}: {why}", quota.name))?;
        if restricted.iter().any(|name| quota.used.get(name).is_none()) {
            return Err(format!("status unknown for quota: {}, resources: {}", quota.name, restricted.join(",")));
        }
        Ok(())
    }

    fn charge_one(&self, quota: &Quota, usage: &Amounts, now: Timestamp) -> Result<Quota, String> {
        if !quota.is_about(&self.evaluator, &self.measured) {
            return Ok(quota.clone());
        }
        let charged_before = self.before.as_ref().filter(|before| quota.is_about(&self.evaluator, before));
        let mut delta = match charged_before {
            Some(before) => usage.without(before.usage(now)),
            None => usage.clone(),
        };
        delta.retain(|name, amount| !amount.is_zero() && quota.hard.get(name).is_some());
        let mut used = quota.used.clone();
        used.add(&delta);
        let exceeds = |name: &str| delta.get(name).is_some() && used.get(name) > quota.hard.get(name);
        if !self.is_status && quota.hard.names().any(exceeds) {
            let (requested, before, limited) =
                (delta.only(exceeds), quota.used.only(exceeds), quota.hard.only(exceeds));
            return Err(format!(
                "exceeded quota: {}, requested: {requested}, used: {before}, limited: {limited}",
                quota.name
            ));
        }
        Ok(Quota { used, ..quota.clone() })
    }
}
