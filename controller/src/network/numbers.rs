//! Which node has which number, and with it which part of the pool: the lowest that is free, from the
//! first instance with a network until the node is removed.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::id::NodeId;

/// See the module.
#[derive(Debug, Clone)]
pub struct Numbers {
    of: BTreeMap<NodeId, u32>,
    /// Numbers below `next` that nobody has.
    free: BTreeSet<u32>,
    next: u32,
    end: u32,
}

impl Numbers {
    /// Numbers from the first up to one before the end.
    #[must_use]
    pub const fn new(first: u32, end: u32) -> Self {
        Self { of: BTreeMap::new(), free: BTreeSet::new(), next: first, end }
    }

    /// The number of a node, if it has one.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<u32> {
        self.of.get(id).copied()
    }

    /// A node had this number before; whether it can have it.
    pub fn restore(&mut self, id: &NodeId, number: u32) -> bool {
        let is_next = (self.next..self.end).contains(&number);
        if self.of.contains_key(id) || !(is_next || self.free.contains(&number)) {
            return false;
        }
        if is_next {
            self.free.extend(self.next..number);
            self.next = number + 1;
        }
        self.free.remove(&number);
        self.of.insert(id.clone(), number);
        true
    }

    /// The number that a node has from now on; none if there is none left.
    pub fn take(&mut self, id: &NodeId) -> Option<u32> {
        if let Some(number) = self.get(id) {
            return Some(number);
        }
        let number = match self.free.pop_first() {
            Some(number) => number,
            None if self.next < self.end => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.of.insert(id.clone(), number);
        Some(number)
    }

    /// A node is no more; whether it had a number.
    pub fn give_back(&mut self, id: &NodeId) -> bool {
        let number = self.of.remove(id);
        self.free.extend(number);
        number.is_some()
    }

    /// Whether a further node can have one.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.next < self.end || !self.free.is_empty()
    }

    /// Whether anybody has one.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_number_is_taken_and_kept() {
        let mut numbers = Numbers::new(4, 7);
        assert_eq!(numbers.take(&node("a")), Some(4));
        assert_eq!(numbers.take(&node("b")), Some(5));
        assert_eq!(numbers.take(&node("a")), Some(4), "it keeps it");
        assert_eq!(numbers.take(&node("c")), Some(6));
        assert!(!numbers.has_left());
        assert_eq!(numbers.take(&node("d")), None);
        assert!(numbers.give_back(&node("b")) && !numbers.give_back(&node("b")));
        assert!(numbers.has_left());
        assert_eq!(numbers.take(&node("d")), Some(5));
    }

    #[test]
    fn what_the_store_has_comes_in_any_order() {
        let mut numbers = Numbers::new(4, 9);
        assert!(numbers.restore(&node("c"), 7) && numbers.restore(&node("a"), 5));
        assert!(!numbers.restore(&node("b"), 5), "somebody has it");
        assert!(!numbers.restore(&node("c"), 6), "it has another");
        assert!(!numbers.restore(&node("b"), 3) && !numbers.restore(&node("b"), 9));
        let next: Vec<_> = ["d", "e", "f"].map(|name| numbers.take(&node(name))).into();
        assert_eq!(next, [Some(4), Some(6), Some(8)]);
        assert_eq!(numbers.take(&node("g")), None);
        assert!(numbers.is_used());
    }
}
