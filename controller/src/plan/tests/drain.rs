//! Cordoned and drained nodes, and homes.

use limpet_protocol::phase::Phase;

use super::jobs::status;
use super::*;
use crate::store::records::Availability;

fn let_have(planner: &mut Planner, name: &str, node: &Node, availability: Availability) {
    planner.set_node(&id(name), Node { availability, ..node.clone() });
}

fn moves(planner: &Planner) -> Vec<String> {
    let text = |(_, slot, step): (&ServiceKey, Slot, &Move)| {
        let stage = match step.stage {
            Stage::Leaving => "leaving",
            Stage::Coming { old_stays: true } => "both",
            Stage::Coming { old_stays: false } => "coming",
        };
        format!("{slot}:{}>{} {stage}", step.from, step.to)
    };
    planner.moves().map(text).collect()
}

/// What a node is told to run of `web`.
fn told(planner: &Planner, name: &str) -> Vec<u32> {
    let shares = planner.share(&id(name));
    shares.iter().flat_map(|share| &share.slots).map(|slot| slot.0).collect()
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_takes_nothing_new() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone())]);
    want(&mut planner, &[("web", wanted(1)), ("all", Wanted { mode: Mode::Global, ..wanted(0) })]);
    planner.plan();
    let_have(&mut planner, "n1", &n, Availability::Pause);
    assert_eq!(planner.plan().nodes, BTreeSet::new());
    want(&mut planner, &[("web", wanted(2)), ("new", Wanted { mode: Mode::Global, ..wanted(0) })]);
    planner.plan();
    assert_eq!((places(&planner, "web").as_str(), places(&planner, "new").as_str()), ("n1:1", ""));
    assert_eq!(why(&planner, "web"), "no suitable node (1 node is cordoned)");
    let_have(&mut planner, "n1", &n, Availability::Active);
    planner.plan();
    assert_eq!(
        (places(&planner, "web").as_str(), places(&planner, "new").as_str()),
        ("n1:1,2", "n1:1")
    );
}

#[test]
fn drained_slots_go_one_after_the_other_and_never_run_twice() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone())]);
    want(&mut planner, &[("web", wanted(3)), ("all", Wanted { mode: Mode::Global, ..wanted(0) })]);
    planner.plan();
    planner.set_node(&id("n2"), n.clone());
    planner.plan();
    let_have(&mut planner, "n1", &n, Availability::Drain);
    planner.plan();
    assert_eq!(places(&planner, "all"), "n2:1", "of a global service the instance just ends");
    assert_eq!(moves(&planner), ["1:n1>n2 leaving"]);
    assert_eq!((told(&planner, "n1"), told(&planner, "n2")), (vec![2, 3], vec![1]));
    assert!(planner.share(&id("n2")).iter().all(|share| share.service.as_str() == "all"));
    assert!(planner.unplaced(&key("web")).iter().any(|u| u.slot == Slot(3)
        && u.reason == "node n1 is drained: it moves when another has arrived"));
    planner.arrived(&key("web"), Slot(1));
    assert_eq!(planner.plan(), Changes::default(), "it has not left yet");
    planner.left(&key("web"), Slot(1));
    assert_eq!(planner.plan().nodes, [id("n2")].into());
    assert_eq!(moves(&planner), ["1:n1>n2 coming"]);
    assert_eq!((told(&planner, "n1"), told(&planner, "n2")), (vec![2, 3], vec![1, 1]));
    planner.arrived(&key("web"), Slot(1));
    planner.plan();
    assert_eq!(moves(&planner), ["2:n1>n2 leaving"]);
    for slot in [2, 3] {
        planner.left(&key("web"), Slot(slot));
        planner.plan();
        planner.arrived(&key("web"), Slot(slot));
        planner.plan();
    }
    assert_eq!((places(&planner, "web").as_str(), moves(&planner)), ("n2:1,2,3", vec![]));
    assert!(planner.share(&id("n1")).is_empty());
}

#[test]
fn start_first_keeps_the_old_one_until_the_new_one_is_ready() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone())]);
    let drain = Pace { parallelism: 0, start_first: true };
    want(&mut planner, &[("web", Wanted { drain, ..wanted(2) })]);
    planner.plan();
    planner.set_node(&id("n2"), n.clone());
    let_have(&mut planner, "n1", &n, Availability::Drain);
    planner.plan();
    assert_eq!(moves(&planner), ["1:n1>n2 both", "2:n1>n2 both"]);
    assert_eq!((told(&planner, "n1"), told(&planner, "n2")), (vec![1, 2], vec![1, 2]));
    // A controller that starts again goes on.
    let mut second = fleet(&[("n2", n.clone())]);
    let_have(&mut second, "n1", &n, Availability::Drain);
    want(&mut second, &[("web", Wanted { drain, ..wanted(2) })]);
    for name in ["n1", "n2"] {
        let services = planner.share(&id(name));
        second.restore(&Assignment {
            node: id(name),
            generation: Generation::default(),
            services,
            network: None,
        });
    }
    second.plan();
    assert_eq!(moves(&second), moves(&planner));
    assert_eq!(places(&second, "web"), "n1:1,2 n2:1,2");
    for mut planner in [planner, second] {
        planner.arrived(&key("web"), Slot(2));
        planner.plan();
        assert_eq!(places(&planner, "web"), "n1:1 n2:1,2");
        // The new node is lost before the other was ready there: the old one stays.
        stand(&mut planner, "n2", &n, Standing::Lost);
        planner.plan();
        assert_eq!(places(&planner, "web"), "n1:1 n2:2");
        assert_eq!(moves(&planner), [""; 0]);
        // The old node is removed: what is not anywhere else has no place to go.
        planner.remove_node(&id("n1"));
        planner.plan();
        assert_eq!(
            (places(&planner, "web").as_str(), planner.unplaced(&key("web")).len()),
            ("n2:2", 2)
        );
    }
}

#[test]
fn what_cannot_move_stays_and_says_why() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone())]);
    want(&mut planner, &[("web", wanted(1))]);
    planner.plan();
    let_have(&mut planner, "n1", &n, Availability::Drain);
    assert_eq!(planner.plan().nodes, BTreeSet::new());
    assert_eq!(
        why(&planner, "web"),
        "node n1 is drained and no other can take it: no suitable node (1 node is drained)"
    );
    planner.set_node(&id("n2"), n.clone());
    planner.plan();
    assert_eq!(moves(&planner), ["1:n1>n2 leaving"]);
    // The new node goes before the old one has stopped it: the slot is open again.
    planner.remove_node(&id("n2"));
    planner.plan();
    assert_eq!((places(&planner, "web").as_str(), moves(&planner)), ("", vec![]));
    let_have(&mut planner, "n1", &n, Availability::Active);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1");
}

fn stateful(replicas: u32) -> Wanted {
    Wanted { volumes: vec!["a_data".into()], ..wanted(replicas) }
}

#[test]
fn volumes_keep_their_service_on_its_node() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut planner, &[("db", stateful(2))]);
    planner.plan();
    assert_eq!(places(&planner, "db"), "n1:1 n2:2");
    // Fewer, stopped, more again: the same nodes, although others would be less loaded.
    want(&mut planner, &[("db", Wanted { stopped: true, ..stateful(2) })]);
    planner.plan();
    want(
        &mut planner,
        &[
            ("db", stateful(1)),
            (
                "web",
                Wanted {
                    placement: limpet_protocol::application::Placement {
                        constraints: vec![constraint(Attribute::Id, true, "n2")],
                        ..Default::default()
                    },
                    ..wanted(3)
                },
            ),
        ],
    );
    planner.plan();
    want(&mut planner, &[("db", stateful(3))]);
    planner.plan();
    assert_eq!(places(&planner, "db"), "n1:1,3 n2:2");
    // A lost or drained node is waited for.
    stand(&mut planner, "n2", &n, Standing::Lost);
    planner.plan();
    assert_eq!(places(&planner, "db"), "n1:1,3 n2:2");
    assert!(
        why(&planner, "db")
            .starts_with("its volume a_data is on n2: no suitable node (1 node is lost)"),
        "{}",
        why(&planner, "db")
    );
    let_have(&mut planner, "n1", &n, Availability::Drain);
    planner.plan();
    assert_eq!((places(&planner, "db").as_str(), moves(&planner)), ("n1:1,3 n2:2", vec![]));
    assert!(why(&planner, "db").contains("stays on n1, which is drained"));
    let_have(&mut planner, "n1", &n, Availability::Active);
    // A new controller knows the homes, also of what is not placed.
    want(&mut planner, &[("db", stateful(1))]);
    planner.plan();
    let mut second = Planner::default();
    for (application, record) in planner.progress_mut().take_changed() {
        second.progress_mut().restore(&application, record.unwrap());
    }
    second.set_node(&id("n0"), n.clone());
    second.set_node(&id("n1"), n.clone());
    second.set_node(&id("n2"), n.clone());
    want(&mut second, &[("db", stateful(3))]);
    second.plan();
    assert_eq!(places(&second, "db"), "n1:1,3 n2:2");
    // With the node its data is gone; or people let it go.
    second.remove_node(&id("n1"));
    second.plan();
    assert_eq!(places(&second, "db"), "n0:1,3 n2:2");
    let mut free = stateful(3);
    free.placement.leaves_volumes = true;
    want(&mut second, &[("db", free)]);
    stand(&mut second, "n2", &n, Standing::Lost);
    second.plan();
    assert_eq!(places(&second, "db"), "n0:1,2,3");
}

#[test]
fn services_with_one_volume_go_together_where_there_is_room() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    want(&mut planner, &[("db", stateful(1))]);
    planner.plan();
    want(&mut planner, &[("db", stateful(1)), ("backup", stateful(1))]);
    planner.plan();
    assert_eq!(
        (places(&planner, "db"), places(&planner, "backup")),
        ("n1:1".into(), "n1:1".into())
    );
}

#[test]
fn a_job_that_moves_is_stopped_first() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone())]);
    let drain = Pace { parallelism: 1, start_first: true };
    want(&mut planner, &[("job", Wanted { ending: Ending::Any, drain, ..wanted(1) })]);
    planner.plan();
    planner.set_node(&id("n2"), n.clone());
    let_have(&mut planner, "n1", &n, Availability::Drain);
    planner.plan();
    assert_eq!(moves(&planner), ["1:n1>n2 leaving"]);
    planner.left(&key("job"), Slot(1));
    planner.plan();
    assert!(planner.report(&id("n2"), &status("job", 1, Phase::Completed), None));
    planner.plan();
    planner.arrived(&key("job"), Slot(1));
    planner.plan();
    assert_eq!(moves(&planner), [""; 0]);
}
