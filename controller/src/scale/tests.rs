//! Tables of the rules, and random loads: the number stays within its bounds and comes to rest.

use limpet_protocol::scale::Pace;
use proptest::prelude::*;

use super::*;

fn key() -> ServiceKey {
    ServiceKey { application: "shop".parse().unwrap(), service: "web".parse().unwrap() }
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn policy(min: u32, max: u32, (up, down): (Pace, Pace)) -> ScalePolicy {
    ScalePolicy {
        per: Per::Application,
        cpu_percent: Some(50),
        up,
        down,
        ..ScalePolicy::between(min, max)
    }
}

const AT_ONCE: Pace = Pace {
    window_ms: 0,
    instances: None,
    percent: None,
    every_ms: 0,
    select: limpet_protocol::scale::Select::Max,
};

/// What the number is after each of these: at a time node `a` wishes so many, or says nothing new.
fn course(policy: &ScalePolicy, steps: &[(u64, Option<u32>)]) -> Vec<u32> {
    let mut totals = Totals::default();
    totals.set(&key(), Some(policy));
    let mut numbers = vec![];
    for (at_ms, wish) in steps {
        if wish.is_some() {
            totals.hear(&key(), &node("a"), *wish);
        }
        totals.decide(*at_ms);
        numbers.push(totals.total(&key()).unwrap());
    }
    numbers
}

#[test]
fn the_number_follows_the_wish_within_the_bounds() {
    let policy = policy(1, 6, (AT_ONCE, AT_ONCE));
    let steps = [(0, None), (1, Some(3)), (2, Some(9)), (3, Some(0)), (4, None)];
    assert_eq!(course(&policy, &steps), [1, 3, 6, 1, 1]);
}

#[test]
fn a_period_allows_so_many_and_the_end_of_it_is_waited_for() {
    let up = Pace { instances: Some(1), percent: Some(100), every_ms: 15_000, ..AT_ONCE };
    let policy = policy(1, 20, (up, AT_ONCE));
    let mut totals = Totals::default();
    totals.set(&key(), Some(&policy));
    totals.hear(&key(), &node("a"), Some(20));
    let mut now_ms = 0;
    let mut numbers = vec![];
    loop {
        totals.decide(now_ms);
        numbers.push((now_ms, totals.total(&key()).unwrap()));
        let Some(due_ms) = totals.due_ms() else { break };
        now_ms = due_ms;
    }
    assert_eq!(numbers, [(0, 2), (15_000, 4), (30_000, 8), (45_000, 16), (60_000, 20)]);
}

#[test]
fn who_says_nothing_any_more_changes_nothing() {
    let policy = policy(1, 6, (AT_ONCE, AT_ONCE));
    let mut totals = Totals::default();
    totals.set(&key(), Some(&policy));
    totals.hear(&key(), &node("a"), Some(4));
    totals.hear(&key(), &node("b"), Some(2));
    assert_eq!(totals.decide(0), [key()]);
    totals.forget_node(&node("a"));
    totals.forget_node(&node("b"));
    assert_eq!(totals.decide(1), []);
    assert_eq!(totals.total(&key()), Some(4));
    totals.set(&key(), None);
    assert_eq!((totals.total(&key()), totals.due_ms()), (None, None));
}

#[test]
fn what_runs_stays_and_others_take_the_lowest() {
    let (a, b) = (node("a"), node("b"));
    let placed =
        [(Slot(1), &a, true), (Slot(2), &b, false), (Slot(3), &a, true), (Slot(4), &b, false)];
    let of = |total| {
        let shares = shares(total, &placed);
        [&a, &b].map(|node| (shares[node].least, shares[node].elsewhere))
    };
    assert_eq!(of(0), [(0, 0), (0, 0)]);
    assert_eq!(of(1), [(1, 0), (0, 1)]);
    assert_eq!(of(2), [(2, 0), (0, 2)]);
    assert_eq!(of(3), [(2, 1), (1, 2)]);
    assert_eq!(of(9), [(2, 2), (2, 2)]);
}

proptest! {
    #[test]
    fn it_stays_within_the_bounds_and_comes_to_rest(
        min in 0_u32..5,
        more in 0_u32..8,
        wishes in prop::collection::vec((0_u64..20_000, 0_u32..20), 1..30),
        paces in prop::array::uniform2((0_u64..60_000, prop::option::of(1_u32..4), 0_u64..30_000)),
    ) {
        let [up, down] = paces.map(|(window_ms, instances, every_ms)| {
            Pace { window_ms, instances, every_ms, ..AT_ONCE }
        });
        let policy = policy(min, min + more.max(1), (up, down));
        let mut totals = Totals::default();
        totals.set(&key(), Some(&policy));
        let (mut now_ms, mut last) = (0, 0);
        for (pause_ms, wish) in wishes {
            now_ms += pause_ms;
            last = wish;
            totals.hear(&key(), &node("a"), Some(wish));
            totals.decide(now_ms);
            let number = totals.total(&key()).unwrap();
            prop_assert!((policy.min..=policy.max).contains(&number));
        }
        let mut rounds = 0;
        while let Some(due_ms) = totals.due_ms() {
            prop_assert!(due_ms > now_ms);
            now_ms = due_ms;
            totals.decide(now_ms);
            rounds += 1;
            prop_assert!(rounds < 1_000);
        }
        prop_assert_eq!(totals.total(&key()), Some(last.clamp(policy.min, policy.max)));
    }
}
