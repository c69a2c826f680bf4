//! What a quota's status should say. Pure.

use std::collections::BTreeMap;

use api::{
    amounts::Amounts,
    quantity::Quantity,
    quota::{Evaluator, Requirement},
};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// A quota, read.
#[derive(Debug)]
pub(super) struct Quota {
    /// What is to be limited.
    hard: Amounts,
    /// What the status says is limited, and used; None before it was ever counted.
    shown: (Option<Amounts>, Option<Amounts>),
    pub(super) requirements: Vec<Requirement>,
}

impl Quota {
    pub(super) fn read(quota: &ResourceQuota) -> Self {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let status = quota.status.as_ref();
        let shown_hard = status.and_then(|status| status.hard.as_ref()).map(amounts);
        let shown_used = status.and_then(|status| status.used.as_ref()).map(amounts);
        Self {
            hard: hard.map(amounts).unwrap_or_default(),
            shown: (shown_hard, shown_used),
            requirements: super::requirements(quota),
        }
    }

    /// The names that are limited.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.hard.names()
    }

    /// The new status, limits and use, if it is another one. What could not be counted stays as it was.
    pub(super) fn status(&self, counted: &Amounts) -> Option<(Amounts, Amounts)> {
        let (shown_hard, shown_used) = &self.shown;
        let mut used = shown_used.clone().unwrap_or_default();
        used.extend(counted.iter().map(|(name, amount)| (name.to_owned(), amount.clone())));
        used.retain(|name, _| self.hard.get(name).is_some());
        let is_new = shown_hard.as_ref() != Some(&self.hard) || shown_used.as_ref() != Some(&used);
        is_new.then(|| (self.hard.clone(), used))
    }
}

/// The quota limits something that is counted by an evaluator.
pub(super) fn limits(quota: &ResourceQuota, evaluator: &Evaluator) -> bool {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    hard.into_iter().flatten().any(|(name, _)| evaluator.counts(name))
}

fn amounts(list: &BTreeMap<String, Text>) -> Amounts {
    list.iter().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}
