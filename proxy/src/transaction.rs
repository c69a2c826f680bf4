//! What the tables hold, and the one `iptables-restore` text that turns it into what they should hold. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    Config,
    rules::{ServiceRules, Shared, Table, fixed_chains, to_node_ports},
    track::ServiceKey,
};

/// A chain in a table.
type Chain = (Table, String);

/// The rules of every Service as last written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    services: BTreeMap<ServiceKey, ServiceRules>,
    /// Services whose rules the kernel does not take: the others go on without them, until they change.
    refused: BTreeSet<ServiceKey>,
}

/// Collects lines of shared chains while it is tried out what the kernel takes. Nothing leads to it.
const PROBE: &str = "KUBE-PROXY-PROBE";

/// A change on its way into the tables.
#[derive(Debug)]
pub(crate) struct Transaction {
    chains: BTreeMap<Chain, Vec<String>>,
    removed: BTreeSet<Chain>,
}

impl Written {
    /// Takes over new rules of some Services and says what that changes. An empty value removes a Service.
    pub(crate) fn change(&mut self, config: &Config, changes: Vec<(ServiceKey, ServiceRules)>) -> Transaction {
        let mut transaction = Transaction { chains: BTreeMap::new(), removed: BTreeSet::new() };
        let mut touched = BTreeSet::new();
        for (key, new) in changes {
            let empty = new == ServiceRules::default();
            let was_refused = self.refused.remove(&key);
            let old = if empty { self.services.remove(&key) } else { self.services.insert(key, new.clone()) };
            // Of what was refused nothing is there.
            let old = old.filter(|_| !was_refused).unwrap_or_default();
            transaction.own_chains(&old, new.clone());
            touched.extend(Shared::ALL.into_iter().filter(|s| lines_of(&old, *s).ne(lines_of(&new, *s))));
        }
        for shared in touched {
            let (table, chain) = shared.chain();
            transaction.chains.insert((table, chain.to_owned()), self.shared_lines(config, shared));
        }
        transaction
    }

    /// Everything, for the start and for tables that somebody else has changed.
    pub(crate) fn all(&self, config: &Config) -> Transaction {
        let mut chains = BTreeMap::new();
        for (table, chain, lines) in fixed_chains(config) {
            chains.insert((table, chain.to_owned()), lines);
        }
        for shared in Shared::ALL {
            let (table, chain) = shared.chain();
            chains.insert((table, chain.to_owned()), self.shared_lines(config, shared));
        }
        for (chain, lines) in self.taken().flat_map(|rules| &rules.own) {
            chains.insert((Table::Nat, chain.clone()), lines.clone());
        }
        Transaction { chains, removed: BTreeSet::new() }
    }

    /// The rules of Services that are not set aside.
    fn taken(&self) -> impl Iterator<Item = &ServiceRules> {
        self.services.iter().filter(|(key, _)| !self.refused.contains(key)).map(|(_, rules)| rules)
    }

    /// Services that are not set aside.
    pub(crate) fn keys(&self) -> Vec<ServiceKey> {
        self.services.keys().filter(|key| !self.refused.contains(key)).cloned().collect()
    }

    /// Goes on without these until they change, or are taken.
    pub(crate) fn set_aside(&mut self, keys: impl IntoIterator<Item = ServiceKey>) {
        self.refused.extend(keys);
    }

    /// Goes on without these, and with all others.
    pub(crate) fn set_aside_only(&mut self, keys: impl IntoIterator<Item = ServiceKey>) {
        self.refused = keys.into_iter().collect();
    }

    /// Services that are set aside.
    pub(crate) fn aside(&self) -> Vec<ServiceKey> {
        self.refused.iter().cloned().collect()
    }

    /// The rules of some Services where no packet comes by.
    pub(crate) fn probe(&self, keys: &[ServiceKey]) -> Transaction {
        let mut chains: BTreeMap<Chain, Vec<String>> = BTreeMap::new();
        for table in Table::ALL {
            chains.insert((table, PROBE.to_owned()), Vec::new());
        }
        for rules in keys.iter().filter_map(|key| self.services.get(key)) {
            chains.extend(rules.own.iter().map(|(chain, lines)| ((Table::Nat, chain.clone()), lines.clone())));
            for (shared, line) in &rules.shared {
                chains.entry((shared.chain().0, PROBE.to_owned())).or_default().push(line.clone());
            }
        }
        Transaction { chains, removed: BTreeSet::new() }
    }

    /// Takes down what [`Self::probe`] has put up and is not used.
    pub(crate) fn end_of_probe() -> Transaction {
        let removed = Table::ALL.into_iter().map(|table| (table, PROBE.to_owned())).collect();
        Transaction { chains: BTreeMap::new(), removed }
    }

    fn shared_lines(&self, config: &Config, shared: Shared) -> Vec<String> {
        let mut lines: Vec<String> = self.taken().flat_map(|r| lines_of(r, shared)).cloned().collect();
        if shared == Shared::Services {
            lines.extend(to_node_ports(config));
        }
        lines
    }
}

fn lines_of(rules: &ServiceRules, shared: Shared) -> impl Iterator<Item = &String> {
    rules.shared.iter().filter(move |(s, _)| *s == shared).map(|(_, line)| line)
}

impl Transaction {
    fn own_chains(&mut self, old: &ServiceRules, new: ServiceRules) {
        let before: BTreeMap<&String, &Vec<String>> = old.own.iter().map(|(c, lines)| (c, lines)).collect();
        let kept: BTreeSet<&String> = new.own.iter().map(|(c, _)| c).collect();
        let gone = before.keys().filter(|c| !kept.contains(*c)).map(|c| (Table::Nat, (*c).clone()));
        self.removed.extend(gone);
        for (chain, lines) in new.own.iter().filter(|(c, lines)| before.get(c) != Some(&lines)) {
            self.chains.insert((Table::Nat, chain.clone()), lines.clone());
            self.removed.remove(&(Table::Nat, chain.clone()));
        }
    }

    /// Also removes chains of ours that are in the tables but not among the wanted ones: left from an earlier run.
    pub(crate) fn remove_stale(&mut self, present: impl IntoIterator<Item = String>) {
        let stale = present.into_iter().map(|chain| (Table::Nat, chain)).filter(|c| !self.chains.contains_key(c));
        self.removed.extend(stale);
    }

    /// Nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.removed.is_empty()
    }

    /// The text for `iptables-restore --noflush`. Declaring a chain empties it; all of it happens at once per table.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for table in Table::ALL {
            self.table(table, &mut text).expect("a String takes every write");
        }
        text
    }

    fn table(&self, table: Table, text: &mut String) -> std::fmt::Result {
        let chains = || self.chains.iter().filter(move |((t, _), _)| *t == table);
        let removed = || self.removed.iter().filter(move |(t, _)| *t == table);
        if chains().next().is_none() && removed().next().is_none() {
            return Ok(());
        }
        writeln!(text, "*{}", table.name())?;
        for chain in chains().map(|((_, c), _)| c).chain(removed().map(|(_, c)| c)) {
            writeln!(text, ":{chain} - [0:0]")?;
        }
        for ((_, chain), lines) in chains() {
            for line in lines {
                writeln!(text, "-A {chain} {line}")?;
            }
        }
        for (_, chain) in removed() {
            writeln!(text, "-X {chain}")?;
        }
        writeln!(text, "COMMIT")
    }
}

#[cfg(test)]
mod tests;
