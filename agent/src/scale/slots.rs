//! Which slots run, of those that may.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use limpet_protocol::id::Slot;
use limpet_protocol::scale::{Per, Scaling};

/// How the instance in a slot fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// There is none.
    Absent,
    /// It is being made, comes up or is in trouble.
    Live,
    /// It does its work.
    Well,
}

/// The slots that may run, in the order in which they are taken: those that were given to this node, and
/// with bounds for the node those beside them. At most as many as may run at a time.
#[must_use]
pub fn candidates(given: &[Slot], scaling: &Scaling) -> Vec<Slot> {
    let mut all: Vec<Slot> = given.to_vec();
    all.sort_unstable();
    all.dedup();
    if scaling.policy.per == Per::Node {
        let homes = all.clone();
        let beside = (1..=Slot::MAX_BESIDE)
            .flat_map(|count| homes.iter().filter_map(move |home| home.beside(count)));
        let most = usize::try_from(scaling.most).unwrap_or(usize::MAX);
        all.extend(beside.take(most.saturating_sub(homes.len())));
    }
    all
}

/// Chooses so many: what was chosen before and is well stays, then what was chosen before, then what is
/// there anyway, then the others; each in the order of the candidates, so that the last to come are the
/// first to go.
#[must_use]
pub fn choose(
    candidates: &[Slot],
    number: u32,
    before: &BTreeSet<Slot>,
    standing: impl Fn(Slot) -> Standing,
) -> BTreeSet<Slot> {
    let rank = |slot: Slot| {
        let was_chosen = before.contains(&slot);
        match (was_chosen, standing(slot)) {
            (true, Standing::Well) => 3,
            (true, _) => 2,
            (false, Standing::Well | Standing::Live) => 1,
            (false, Standing::Absent) => 0,
        }
    };
    let mut ranked: Vec<(Reverse<i32>, usize, Slot)> = candidates
        .iter()
        .enumerate()
        .map(|(place, slot)| (Reverse(rank(*slot)), place, *slot))
        .collect();
    ranked.sort_unstable();
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    ranked.into_iter().take(number).map(|(_, _, slot)| slot).collect()
}

#[cfg(test)]
mod tests {
    use limpet_protocol::scale::ScalePolicy;

    use super::*;

    fn slots(numbers: &[u32]) -> Vec<Slot> {
        numbers.iter().copied().map(Slot).collect()
    }

    fn scaling(per: Per, most: u32) -> Scaling {
        let policy = ScalePolicy { per, ..ScalePolicy::between(1, most) };
        Scaling { least: 1, most, elsewhere: 0, priority: 0, policy }
    }

    #[test]
    fn with_bounds_for_the_node_there_are_slots_beside_those_that_were_given() {
        for (per, given, most, expected) in [
            (Per::Node, &[1][..], 3, &[1, 1001, 1002][..]),
            (Per::Node, &[2, 1], 5, &[1, 2, 1001, 2001, 1002]),
            (Per::Node, &[1, 2], 1, &[1, 2]),
            (Per::Node, &[], 3, &[]),
            (Per::Application, &[7, 3], 2, &[3, 7]),
        ] {
            let found = candidates(&slots(given), &scaling(per, most));
            assert_eq!(found, slots(expected), "{per:?} {given:?}");
        }
    }

    #[test]
    fn what_does_its_work_stays() {
        use Standing::{Absent, Live, Well};
        let all = slots(&[1, 2, 3, 4]);
        for (number, before, fares, expected, why) in [
            (2, &[][..], [Absent; 4], &[1, 2][..], "the lowest first"),
            (
                2,
                &[],
                [Absent, Live, Absent, Well],
                &[2, 4],
                "what runs after a restart of the agent",
            ),
            (2, &[1, 3], [Well, Absent, Well, Absent], &[1, 3], "no change without need"),
            (3, &[1, 3], [Well, Absent, Well, Absent], &[1, 2, 3], "the lowest that is free comes"),
            (1, &[1, 3], [Well, Absent, Well, Absent], &[1], "the last goes first"),
            (1, &[1, 3], [Live, Absent, Well, Absent], &[3], "what is in trouble goes first"),
            (
                2,
                &[1, 3],
                [Absent, Absent, Well, Absent],
                &[1, 3],
                "between two tries nothing moves",
            ),
            (0, &[1], [Well; 4], &[], "none"),
            (9, &[], [Absent; 4], &[1, 2, 3, 4], "no more than there are"),
        ] {
            let before: BTreeSet<Slot> = slots(before).into_iter().collect();
            let fare = |slot: Slot| fares[usize::try_from(slot.0 - 1).unwrap()];
            let chosen = choose(&all, number, &before, fare);
            assert_eq!(chosen.into_iter().collect::<Vec<_>>(), slots(expected), "{why}");
        }
    }
}
