//! Properties of rollouts: in random worlds with random failures no rule is ever broken, and it ends
//! when faults stop.

use limpet_protocol::application::{FailureAction, Portion, Wave};
use limpet_protocol::assignment::UpdateOrder;
use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Another version is wanted.
    Apply(u8),
    /// A node goes or comes back; what it was told last may not have reached it.
    Stand(u32, bool),
    /// A node gives what it has to others, or takes work again.
    Drain(u32, bool),
    /// A node tries in vain to have the image, or has it.
    Image(u32, u32),
    /// A slot, by its place in the list of all, comes up.
    Up(usize),
    /// One fails.
    Fail(usize),
    /// One goes down by itself and is no failure of the update.
    Down(usize),
    /// Time passes.
    Pass(u64),
    /// People.
    Order(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (2..6_u8).prop_map(Step::Apply),
        2 => (1..7_u32, any::<bool>()).prop_map(|(node, back)| Step::Stand(node, back)),
        2 => (1..7_u32, any::<bool>()).prop_map(|(node, begin)| Step::Drain(node, begin)),
        2 => (1..7_u32, 0..4_u32).prop_map(|(node, tries)| Step::Image(node, tries)),
        6 => (0..12_usize).prop_map(Step::Up),
        3 => (0..12_usize).prop_map(Step::Fail),
        1 => (0..12_usize).prop_map(Step::Down),
        3 => (0..8_000_u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Order),
    ]
}

fn policy() -> impl Strategy<Value = UpdatePolicy> {
    let action = prop_oneof![
        Just(FailureAction::Pause),
        Just(FailureAction::Continue),
        Just(FailureAction::Rollback)
    ];
    (0..4_u32, 0..3_u64, action, 0..6_u64, 0..5_u32, any::<bool>()).prop_map(
        |(parallelism, delay, failure_action, monitor, quarters, first)| UpdatePolicy {
            parallelism,
            delay_ms: delay * 1_000,
            failure_action,
            monitor_ms: monitor * 1_000,
            max_failure_ppm: quarters * 250_000,
            order: if first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst },
        },
    )
}

fn waves() -> impl Strategy<Value = Option<WavePolicy>> {
    let portion = || {
        prop_oneof![(1..5_u32).prop_map(Portion::Count), (1..101_u32).prop_map(Portion::Percent)]
    };
    let wave = prop_oneof![Just(Wave::Nodes(vec![])), (1..101_u32).prop_map(Wave::Percent)];
    let policy = (
        proptest::collection::vec(wave, 0..4),
        0..101_u32,
        proptest::option::of(portion()),
        proptest::option::of(portion()),
    );
    proptest::option::of(policy.prop_map(|(waves, success_percent, abort, max_unavailable)| {
        WavePolicy { waves, success_percent, abort, max_unavailable, window: None }
    }))
}

fn wants() -> impl Strategy<Value = Want> {
    (policy(), policy(), waves(), any::<bool>(), 1..8_u32).prop_map(
        |(update, rollback, waves, global, replicas)| Want {
            version: 1,
            mode: if global { Mode::Global } else { Mode::Replicated { replicas } },
            update,
            rollback,
            waves,
            after: vec![],
        },
    )
}

/// What each slot was told, before and after a turn.
fn told(fleet: &Fleet) -> BTreeMap<(NodeId, Slot), SpecHash> {
    let key = key("s");
    let places = fleet.planner.places(&key);
    let places = places.filter(|(id, slot)| fleet.planner.is_meant(&key, id, *slot));
    let spec = |(id, slot): (&NodeId, Slot)| {
        ((id.clone(), slot), fleet.rollouts.spec_of(&key, id, slot).unwrap().0)
    };
    places.map(spec).collect()
}

/// One turn of the controller without the agents, and the rules that it must keep.
fn turn_and_check(fleet: &mut Fleet, want: &Want) -> Result<(), TestCaseError> {
    let before = told(fleet);
    let said = fleet.rollouts.progress(&key("s"));
    fleet.controller();
    let after = told(fleet);
    let begun: Vec<_> = after
        .iter()
        .filter(|(place, spec)| before.get(*place).is_some_and(|old| old != *spec))
        .filter(|((id, _), _)| fleet.standing[id] == Standing::Ready)
        .collect();
    let now = fleet.rollouts.progress(&key("s"));
    fleet.units = fleet.units.max(now.as_ref().map_or(0, |now| now.units));
    let back = now.as_ref().is_some_and(|it| it.state.starts_with("roll"));
    let rules = if back { want.rollback } else { want.update };
    let of_this = |id: &NodeId, slot: Slot, spec: SpecHash| {
        let status = fleet.runs.get(&(key("s"), id.clone(), slot));
        status.filter(|status| status.spec == spec)
    };
    let count = |is: &dyn Fn(&NodeId, Slot, SpecHash) -> bool| {
        let reachable = after.iter().filter(|((id, _), _)| fleet.standing[id] == Standing::Ready);
        reachable.filter(|((id, slot), spec)| is(id, *slot, **spec)).count()
    };
    // A direction that turns in this turn has told of both.
    let turned = said.as_ref().is_some_and(|it| it.state != now.as_ref().map_or("", |it| it.state));
    if rules.parallelism > 0 && !begun.is_empty() && !turned {
        let on_way = count(&|id, slot, spec| {
            let status = of_this(id, slot, spec);
            !status.is_some_and(|status| status.up || status.failed.is_some())
                && begun.iter().any(|((on, at), _)| on == id && *at == slot)
        });
        let most = usize::try_from(rules.parallelism).unwrap();
        prop_assert!(on_way <= most, "{on_way} begun at once, {most} may be");
    }
    if now.as_ref().is_some_and(|it| it.state.ends_with("paused")) && !turned {
        prop_assert!(begun.is_empty(), "it is paused");
    }
    if let Some(now) = now.filter(|now| now.state == "updating" && !begun.is_empty() && !turned)
        && rules.failure_action != FailureAction::Continue
    {
        let ppm = u128::from(rules.max_failure_ppm);
        let most = u128::try_from(fleet.units).unwrap() * ppm;
        let failed = u128::try_from(now.failed).unwrap() * 1_000_000;
        prop_assert!(failed <= most, "{} of {} failed and more is begun", now.failed, now.units);
    }
    let budget = want.waves.as_ref().and_then(|waves| waves.max_unavailable);
    if let Some(budget) = budget.filter(|_| rules.order == UpdateOrder::StopFirst && !turned) {
        // Those that were up, were not about to go down anyway, and are not up after this.
        let up = begun.iter().filter(|(place, _)| {
            let (id, slot) = place;
            let status = fleet.runs.get(&(key("s"), id.clone(), *slot));
            status.is_some_and(|status| status.up && before.get(place) == Some(&status.spec))
        });
        let down = count(&|id, slot, spec| !of_this(id, slot, spec).is_some_and(|it| it.up));
        let all = count(&|_, _, _| true);
        let most = budget.of(all);
        prop_assert!(up.count() == 0 || down <= most, "{down} of {all} down, {most} may be");
    }
    Ok(())
}

fn nth(fleet: &mut Fleet, at: usize) -> Option<&mut UnitStatus> {
    let ready: Vec<_> = fleet
        .runs
        .keys()
        .filter(|(_, id, _)| fleet.standing[id] == Standing::Ready)
        .cloned()
        .collect();
    let place = ready.get(at % ready.len().max(1))?;
    fleet.runs.get_mut(place)
}

fn happen(fleet: &mut Fleet, want: &mut Want, step: &Step) {
    match step {
        Step::Apply(version) => {
            want.version = *version;
            fleet.units = 0;
            fleet.want(&[("s", want.clone())]);
        }
        Step::Stand(node, back) => {
            let standing = if *back { Standing::Ready } else { Standing::Unreachable };
            fleet.stand(&format!("n{node}"), standing);
        }
        Step::Drain(node, begin) => fleet.drain(&format!("n{node}"), *begin),
        Step::Image(node, tries) => {
            let id = format!("n{node}").parse().unwrap();
            match tries {
                3 => drop(fleet.without_image.remove(&id)),
                tries => drop(fleet.without_image.insert(id, *tries)),
            }
        }
        Step::Up(at) => {
            if let Some(status) = nth(fleet, *at) {
                status.up = true;
            }
        }
        Step::Fail(at) => {
            if let Some(status) = nth(fleet, *at) {
                (status.up, status.failed) = (false, Some("crashed".into()));
            }
        }
        Step::Down(at) => {
            if let Some(status) = nth(fleet, *at) {
                status.up = false;
            }
        }
        Step::Pass(ms) => fleet.now_ms += ms,
        Step::Order(resume) => {
            let order = if *resume { Order::Resume } else { Order::Pause };
            fleet.order(order);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn no_rule_is_broken_and_it_ends_when_faults_stop(
        mut want in wants(),
        steps in proptest::collection::vec((step(), any::<bool>()), 1..60),
    ) {
        let mut fleet = Fleet::new(6);
        for node in ["n2", "n5"] {
            fleet.waves.insert(node.parse().unwrap(), 1);
        }
        fleet.apply(&[("s", want.clone())]);
        // From now on nothing comes up by itself.
        fleet.slow.extend(2..6);
        fleet.slow.insert(1);
        for (step, heard) in &steps {
            happen(&mut fleet, &mut want, step);
            turn_and_check(&mut fleet, &want)?;
            // Sometimes the nodes have not taken over yet what they were told.
            if *heard {
                fleet.agents();
            }
        }
        // Faults stop: everybody is back, everything comes up, and a person says go on.
        for node in 1..=6 {
            fleet.stand(&format!("n{node}"), Standing::Ready);
            fleet.drain(&format!("n{node}"), false);
        }
        fleet.slow.clear();
        fleet.without_image.clear();
        fleet.runs.clear();
        fleet.now_ms += 60_000;
        fleet.settle();
        for _ in 0..200 {
            fleet.order(Order::Resume);
            fleet.pass(6_000);
            if fleet.rollouts.progress(&key("s")).is_none() {
                break;
            }
        }
        prop_assert_eq!(fleet.said("s"), "");
        let expected = want.version.to_string();
        let versions = fleet.versions("s");
        prop_assert!(versions.chars().all(|it| it.to_string() == expected), "{}", versions);
    }
}
