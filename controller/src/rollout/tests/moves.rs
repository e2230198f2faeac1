//! Slots that leave a drained node while their service is updated.

use limpet_protocol::assignment::UpdateOrder;

use super::*;

/// What the nodes run of each slot: `1@n1=2` is slot 1 on n1 with version 2.
fn runs(fleet: &Fleet) -> String {
    let shown = fleet.runs.iter().map(|((_, id, slot), status)| {
        let up = if status.up { "" } else { "?" };
        format!("{slot}@{id}={}{up}", status.spec.0[0])
    });
    let mut all: Vec<String> = shown.collect();
    all.sort();
    all.join(" ")
}

fn start_first(version: u8, replicas: u32) -> Want {
    let mut want = want(version, replicas);
    want.update.order = UpdateOrder::StartFirst;
    want
}

#[test]
fn a_slot_on_its_way_is_updated_where_it_goes_and_stays_as_it_is_where_it_comes_from() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", start_first(1, 2))]);
    assert_eq!(runs(&fleet), "1@n1=1 2@n2=1");
    // What comes to n2 is not ready there yet.
    fleet.slow.extend([1, 2]);
    fleet.drain("n1", true);
    fleet.settle();
    assert_eq!(runs(&fleet), "1@n1=1 1@n2=1? 2@n2=1");
    fleet.apply(&[("s", start_first(2, 2))]);
    assert_eq!(runs(&fleet), "1@n1=1 1@n2=2? 2@n2=1", "one at a time, the old one runs on");
    assert_eq!(fleet.said("s"), "updating 0/2");
    fleet.come_up(2);
    assert_eq!(runs(&fleet), "1@n2=2 2@n2=2");
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}

#[test]
fn a_slot_that_comes_back_to_where_it_was_comes_under_the_rules_again() {
    let mut fleet = Fleet::new(2);
    fleet.apply(&[("s", start_first(1, 2))]);
    fleet.slow.extend([1, 2]);
    fleet.drain("n1", true);
    fleet.settle();
    fleet.apply(&[("s", start_first(2, 2))]);
    // The node that it goes to cannot take it any more.
    fleet.stand("n2", Standing::Lost);
    fleet.settle();
    assert_eq!(fleet.planner.meant(&key("s"), Slot(1)).map(NodeId::as_str), Some("n1"));
    assert_eq!(fleet.said("s"), "updating 0/2, 1 away");
    fleet.come_up(2);
    fleet.stand("n2", Standing::Ready);
    fleet.drain("n1", false);
    fleet.settle();
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("22".into(), String::new()));
}

#[test]
fn a_slot_that_has_arrived_is_not_forgotten_with_the_node_it_came_from() {
    let mut fleet = Fleet::new(3);
    fleet.apply(&[("s", start_first(1, 3))]);
    fleet.drain("n3", true);
    fleet.slow.extend([1, 2]);
    fleet.settle();
    let mut next = start_first(2, 3);
    next.update.parallelism = 1;
    fleet.apply(&[("s", next.clone())]);
    // Slot 3 is on both nodes and was begun first: it has nothing to lose where it goes.
    assert_eq!(fleet.versions("s"), "112");
    fleet.slow.insert(2);
    for status in fleet.runs.values_mut().filter(|status| status.spec == hash(2)) {
        status.up = true;
    }
    fleet.settle();
    assert!(!fleet.planner.places(&key("s")).any(|(id, _)| id.as_str() == "n3"));
    assert_eq!(fleet.versions("s").matches('2').count(), 2, "{}", runs(&fleet));
    assert_eq!(fleet.said("s"), "updating 1/3");
    fleet.come_up(2);
    fleet.pass(5_000);
    assert_eq!((fleet.versions("s"), fleet.said("s")), ("222".into(), String::new()));
}
