//! How many questions may be on their way to other servers: in all, and of one container.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// In all. Each costs a socket and some kilobytes.
const MAX_OUTSTANDING: usize = 128;
/// Of one container, so that one that floods leaves room for the others.
const MAX_OF_ONE: usize = 32;

/// Those on their way.
#[derive(Debug, Default)]
pub(super) struct Outstanding(Mutex<HashMap<IpAddr, usize>>);

/// One of them; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    outstanding: Arc<Outstanding>,
    from: IpAddr,
}

impl Outstanding {
    /// Lets one more on its way, unless there are too many.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Permit> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = counts.get(&from).copied().unwrap_or(0);
        if of_one >= MAX_OF_ONE || counts.values().sum::<usize>() >= MAX_OUTSTANDING {
            return None;
        }
        counts.insert(from, of_one + 1);
        Some(Permit { outstanding: Arc::clone(self), from })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.outstanding.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&self.from).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.from);
        } else {
            counts.insert(self.from, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_floods_leaves_room_and_all_together_are_bounded() {
        let outstanding = Arc::new(Outstanding::default());
        let enter = |from: u8| outstanding.enter(IpAddr::from([10, 0, 0, from]));
        let first: Vec<_> = (0..2 * MAX_OF_ONE).filter_map(|_| enter(1)).collect();
        assert_eq!(first.len(), MAX_OF_ONE);
        let others: Vec<_> = (2..100).flat_map(|from| [enter(from), enter(from)]).collect();
        assert_eq!(others.iter().flatten().count(), MAX_OUTSTANDING - MAX_OF_ONE);
        assert!(enter(200).is_none());
        drop(first);
        assert!(enter(200).is_some() && enter(1).is_some());
        drop(others);
        assert!(outstanding.0.lock().unwrap().is_empty());
    }
}
