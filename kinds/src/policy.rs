//! policy: disruption budgets.

pub(crate) mod disruption_budget;
