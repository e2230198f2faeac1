//! How many instances the load asks for over the fleet, of services that are scaled as a whole
//! ([`Per::Application`]).
//!
//! In: what each node with instances thinks is needed over the fleet ([`ScaleReport::wish`]), and the
//! time as milliseconds of a clock that never goes back. Out: for each service the number of instances
//! that have to run ([`Totals::total`]), and how that is shared among its nodes ([`shares`]).
//!
//! All slots that the policy allows have a place from the beginning: a node may run all of its own
//! without asking, also offline. What is decided here is how many of them it must run because others
//! need them: when a node is at its bound, or has no room, others take part. The windows of the policy are
//! in what the nodes say, its rates hold here too.
//!
//! [`Per::Application`]: limpet_protocol::scale::Per::Application
//! [`ScaleReport::wish`]: limpet_protocol::scale::ScaleReport

mod total;

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Service;
use limpet_protocol::id::{NodeId, Slot};
use limpet_protocol::scale::{Per, ScalePolicy};

use crate::plan::ServiceKey;
use total::Total;

/// The numbers of all services that are scaled as a whole.
#[derive(Debug, Default)]
pub struct Totals {
    services: BTreeMap<ServiceKey, Total>,
    /// Services of which something may be another.
    stale: BTreeSet<ServiceKey>,
}

/// What a node has to run of a service, and what others do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// So many of its slots at least.
    pub least: u32,
    /// So many run on other nodes.
    pub elsewhere: u32,
}

/// The policy of a service that is scaled as a whole.
#[must_use]
pub fn of_fleet(service: &Service) -> Option<&ScalePolicy> {
    service.autoscale.as_ref().filter(|policy| policy.per == Per::Application)
}

impl Totals {
    /// A service is scaled as a whole by these rules, or not any more.
    pub fn set(&mut self, key: &ServiceKey, policy: Option<&ScalePolicy>) {
        match policy {
            None => drop(self.services.remove(key)),
            Some(policy) => {
                let total = self.services.entry(key.clone());
                total.or_insert_with(|| Total::new(policy.clone())).follow(policy);
                self.stale.insert(key.clone());
            }
        }
    }

    /// An earlier life of the controller had so many run.
    pub fn restore(&mut self, key: &ServiceKey, number: u32) {
        if let Some(total) = self.services.get_mut(key) {
            total.restore(number);
        }
    }

    /// A node thinks that so many are needed over the fleet; none: it has nothing to say any more.
    pub fn hear(&mut self, key: &ServiceKey, node: &NodeId, wish: Option<u32>) {
        if let Some(total) = self.services.get_mut(key)
            && total.hear(node, wish)
        {
            self.stale.insert(key.clone());
        }
    }

    /// A node has nothing to say of any service any more.
    pub fn forget_node(&mut self, node: &NodeId) {
        for (key, total) in &mut self.services {
            if total.hear(node, None) {
                self.stale.insert(key.clone());
            }
        }
    }

    /// The services whose number is another now.
    pub fn decide(&mut self, now_ms: u64) -> Vec<ServiceKey> {
        let due =
            self.services.iter().filter(|(_, total)| total.due_ms().is_some_and(|at| at <= now_ms));
        let mut stale: BTreeSet<ServiceKey> = due.map(|(key, _)| key.clone()).collect();
        stale.append(&mut self.stale);
        let mut changed = vec![];
        for key in stale {
            if self.services.get_mut(&key).is_some_and(|total| total.decide(now_ms)) {
                changed.push(key);
            }
        }
        changed
    }

    /// When something may be another though nobody said anything.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.services.values().filter_map(Total::due_ms).min()
    }

    /// How many instances of a service have to run; none where it is not scaled as a whole.
    #[must_use]
    pub fn total(&self, key: &ServiceKey) -> Option<u32> {
        self.services.get(key).map(Total::number)
    }
}

/// A slot, where it is and whether that node runs it.
pub type Placed<'a> = (Slot, &'a NodeId, bool);

/// What each node has to run of so many: slots that run anyway before others, then the lowest.
#[must_use]
pub fn shares<'a>(total: u32, placed: &[Placed<'a>]) -> BTreeMap<&'a NodeId, Share> {
    let mut order: Vec<&Placed<'a>> = placed.iter().collect();
    order.sort_by_key(|(slot, _, runs)| (!runs, *slot));
    let mut shares: BTreeMap<&NodeId, Share> =
        placed.iter().map(|(_, node, _)| (*node, Share::default())).collect();
    let chosen = order.iter().take(usize::try_from(total).unwrap_or(usize::MAX));
    for (_, node, _) in chosen {
        if let Some(share) = shares.get_mut(node) {
            share.least += 1;
        }
    }
    let all: u32 = shares.values().map(|share| share.least).sum();
    for share in shares.values_mut() {
        share.elsewhere = all - share.least;
    }
    shares
}

#[cfg(test)]
mod tests;
