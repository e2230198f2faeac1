//! What was wished and decided before, in a fixed amount of memory.

use heapless::{Deque, Vec};

/// Different wishes that a window tells apart. With more of them those in the middle are taken for
/// greater (or, of a least, smaller) than they were: the number changes later, never sooner.
const MAX_EXTREMES: usize = 16;
/// Changes that a rate looks back over. Of more the oldest are forgotten: the number then counts as what it
/// was after them.
const MAX_CHANGES: usize = 32;

/// Which end of the wishes a window keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Greatest,
    Least,
}

/// The greatest or the least of the wishes within a window that ends now.
///
/// Kept are the wishes that may still count: each is farther from the extreme than the one before it, and
/// newer. The window may be of any length.
#[derive(Debug, Clone)]
pub(super) struct Extreme {
    keep: Keep,
    wishes: Deque<(u64, u32), MAX_EXTREMES>,
}

impl Extreme {
    pub(super) const fn new(keep: Keep) -> Self {
        Self { keep, wishes: Deque::new() }
    }

    /// Takes a wish and tells which one counts over a window that ends with it.
    pub(super) fn push(&mut self, wish: u32, now_ms: u64, window_ms: u64) -> u32 {
        let oldest_ms = now_ms.saturating_sub(window_ms);
        while self.wishes.front().is_some_and(|(at_ms, _)| *at_ms < oldest_ms) {
            self.wishes.pop_front();
        }
        while self.wishes.back().is_some_and(|(_, other)| self.covers(wish, *other)) {
            self.wishes.pop_back();
        }
        if let Err((now_ms, _)) = self.wishes.push_back((now_ms, wish)) {
            // Full: the newest of the others holds as long as this one would.
            if let Some(newest) = self.wishes.back_mut() {
                newest.0 = now_ms;
            }
        }
        self.wishes.front().map_or(wish, |(_, extreme)| *extreme)
    }

    /// Whether a newer wish takes the place of an older one.
    const fn covers(&self, newer: u32, older: u32) -> bool {
        match self.keep {
            Keep::Greatest => newer >= older,
            Keep::Least => newer <= older,
        }
    }
}

/// The number of instances over time.
#[derive(Debug, Clone)]
pub(super) struct Course {
    /// When each number was decided, the oldest first.
    changes: Vec<(u64, u32), MAX_CHANGES>,
}

impl Course {
    pub(super) fn new(number: u32, now_ms: u64) -> Self {
        let mut course = Self { changes: Vec::new() };
        course.change(number, now_ms);
        course
    }

    /// From now on it is this number.
    pub(super) fn change(&mut self, number: u32, now_ms: u64) {
        if self.changes.is_full() {
            self.changes.remove(0);
        }
        // There is room by now.
        self.changes.push((now_ms, number)).ok();
    }

    pub(super) fn now(&self) -> u32 {
        self.changes.last().map_or(0, |(_, number)| *number)
    }

    /// The number at a time before; the oldest that is known where that was before all of them.
    pub(super) fn at(&self, at_ms: u64) -> u32 {
        let before = self.changes.iter().rev().find(|(since_ms, _)| *since_ms <= at_ms);
        before.or(self.changes.first()).map_or(0, |(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_and_the_least_of_a_window() {
        let mut greatest = Extreme::new(Keep::Greatest);
        let mut least = Extreme::new(Keep::Least);
        let wishes = [(0, 3), (10, 5), (20, 2), (30, 4), (60, 1), (90, 1), (131, 1), (132, 7)];
        let over_60 =
            wishes.map(|(at, wish)| (greatest.push(wish, at, 60), least.push(wish, at, 60)));
        assert_eq!(
            over_60,
            [(3, 3), (5, 3), (5, 2), (5, 2), (5, 1), (4, 1), (1, 1), (7, 1)],
            "greatest and least of the last 60 ms"
        );
        let mut none = Extreme::new(Keep::Least);
        assert_eq!([(0, 5), (10, 1), (20, 9)].map(|(at, wish)| none.push(wish, at, 0)), [5, 1, 9]);
    }

    #[test]
    fn a_window_with_too_many_wishes_errs_to_the_safe_side() {
        let mut greatest = Extreme::new(Keep::Greatest);
        for wish in 0..100 {
            greatest.push(1000 - wish, u64::from(wish), 1_000);
        }
        assert_eq!(greatest.push(1, 500, 1_000), 1000);
        let later = greatest.push(1, 1_050, 1_000);
        assert!((949..=1000).contains(&later), "{later}: never less than what was wished");
    }

    #[test]
    fn the_number_of_before() {
        let mut course = Course::new(2, 100);
        course.change(4, 200);
        assert_eq!([0, 100, 199, 200, 900].map(|at| course.at(at)), [2, 2, 2, 4, 4]);
        for number in 0..200 {
            course.change(number, 1_000 + u64::from(number));
        }
        assert_eq!((course.at(0), course.now()), (168, 199), "the oldest that is known");
    }

    proptest::proptest! {
        /// A window says what a list of all wishes would say.
        #[test]
        fn a_window_is_a_list(
            wishes in proptest::collection::vec((1_u64..50, 0_u32..12), 1..80),
            window_ms in 0_u64..400,
        ) {
            let (mut greatest, mut least) = (Extreme::new(Keep::Greatest), Extreme::new(Keep::Least));
            let (mut now, mut all) = (0, vec![]);
            for (after, wish) in wishes {
                now += after;
                all.push((now, wish));
                let within = || all.iter().filter(|(at, _)| *at + window_ms >= now).map(|(_, it)| *it);
                proptest::prop_assert_eq!(Some(greatest.push(wish, now, window_ms)), within().max());
                proptest::prop_assert_eq!(Some(least.push(wish, now, window_ms)), within().min());
            }
        }
    }
}
