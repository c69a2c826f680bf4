//! What to change on the device so that it has exactly the wanted peers. Pure.

use std::collections::BTreeSet;

use crate::annotations::Peer;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make a peer's pods reachable.
    Add(Peer),
    /// Forget a peer.
    Remove(Peer),
}

impl Action {
    /// Keeps account of a change that was made.
    pub(crate) fn note(&self, applied: &mut BTreeSet<Peer>) {
        match self {
            Self::Add(peer) => applied.insert(peer.clone()),
            Self::Remove(peer) => applied.remove(peer),
        };
    }
}

/// Removals first: a range or a MAC may move from one peer to another.
pub(crate) fn plan(applied: &BTreeSet<Peer>, desired: &BTreeSet<Peer>) -> Vec<Action> {
    let removed = applied.difference(desired).cloned().map(Action::Remove);
    let added = desired.difference(applied).cloned().map(Action::Add);
    removed.chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(third: u8, mac: u8) -> Peer {
        let cidr = format!("10.244.{third}.0/24").parse().unwrap();
        Peer { cidr, mac: [mac; 6], public_ip: [192, 0, 2, third].into() }
    }

    #[test]
    fn only_differences_are_changed() {
        let mut applied = BTreeSet::from([peer(1, 1), peer(2, 2)]);
        let desired = BTreeSet::from([peer(1, 1), peer(2, 9), peer(3, 3)]);
        let actions = plan(&applied, &desired);
        assert_eq!(actions, [Action::Remove(peer(2, 2)), Action::Add(peer(2, 9)), Action::Add(peer(3, 3))]);
        actions.iter().for_each(|a| a.note(&mut applied));
        assert_eq!(applied, desired);
        assert_eq!(plan(&applied, &desired), []);
    }
}
