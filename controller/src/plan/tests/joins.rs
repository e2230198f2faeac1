//! Who shares a network goes where that is, and nowhere else.

use limpet_protocol::application::{Application, Service};
use limpet_protocol::id::{ApplicationName, ServiceName};
use limpet_protocol::spec::{ImageSource, Spec};

use super::*;
use crate::plan::joins::wanted as wanted_of;

fn service(name: &str, replicas: u32, change: impl FnOnce(&mut Service)) -> (ServiceName, Service) {
    let application: ApplicationName = "a".parse().unwrap();
    let name: ServiceName = name.parse().unwrap();
    let spec = Spec::new(application, name.clone(), ImageSource::new("i"));
    let mut service = Service::new(spec, Mode::Replicated { replicas });
    change(&mut service);
    (name, service)
}

fn joins(service: &mut Service) {
    service.spec.network.joins = Some("web".parse().unwrap());
}

fn apply(planner: &mut Planner, services: Vec<(ServiceName, Service)>) {
    let specs = services.iter().map(|(name, _)| (name.clone(), Some(SpecHash([1; 32])))).collect();
    let application =
        Application { name: "a".parse().unwrap(), services: services.into_iter().collect() };
    planner.set_application(&application.name, wanted_of(&application, &specs));
}

fn pair(replicas: u32) -> Vec<(ServiceName, Service)> {
    vec![service("side", replicas, joins), service("web", replicas, |_| {})]
}

fn both(planner: &Planner) -> String {
    let (web, side) = (places(planner, "web"), places(planner, "side"));
    assert_eq!(web, side);
    web
}

fn told(planner: &Planner, node: &str) -> String {
    let share = planner.share(&id(node));
    let part = |part: &limpet_protocol::assignment::AssignedService| {
        let slots: Vec<String> = part.slots.iter().map(ToString::to_string).collect();
        format!("{}:{}", part.service, slots.join(","))
    };
    share.iter().map(part).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_slot_is_where_the_same_slot_of_the_other_is() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone()), ("n3", n.clone())]);
    apply(&mut planner, pair(4));
    let changes = planner.plan();
    assert_eq!(both(&planner), "n1:1,4 n2:2 n3:3");
    assert_eq!((changes.nodes.len(), changes.services.len()), (3, 2));
    assert_eq!(planner.plan(), Changes::default());
    apply(&mut planner, pair(2));
    planner.plan();
    assert_eq!(both(&planner), "n1:1 n2:2");
    stand(&mut planner, "n2", &n, Standing::Lost);
    planner.plan();
    assert_eq!(both(&planner), "n1:1 n3:2");
    planner.remove_node(&id("n1"));
    planner.plan();
    assert_eq!(both(&planner), "n3:1,2");
    // Without the other it is placed by itself, and with it again it goes back.
    apply(&mut planner, vec![service("side", 2, |_| {}), service("web", 2, |_| {})]);
    planner.plan();
    apply(&mut planner, pair(2));
    planner.plan();
    assert_eq!(both(&planner), "n3:1,2");
    apply(&mut planner, vec![]);
    planner.plan();
    assert_eq!(planner.usage(&id("n3")), Usage::default());
    assert!(planner.joiners.is_empty());
}

#[test]
fn what_they_need_they_need_together() {
    let mib = |mib: u64| {
        move |service: &mut Service| {
            service.spec.resources.memory_reservation_bytes = Some(mib << 20);
        }
    };
    let mut planner = fleet(&[("small", node(100, "north")), ("south", node(200, "south"))]);
    let side = |change: &dyn Fn(&mut Service)| {
        service("side", 1, |it| {
            joins(it);
            change(it);
        })
    };
    apply(&mut planner, vec![side(&mib(80)), service("web", 1, mib(80))]);
    planner.plan();
    assert_eq!(both(&planner), "south:1", "there is room for both");
    let north = |it: &mut Service| {
        it.placement.constraints =
            vec![constraint(Attribute::Label("site".to_owned()), true, "north")];
    };
    apply(&mut planner, vec![side(&north), service("web", 1, mib(80))]);
    planner.plan();
    assert_eq!(both(&planner), "small:1", "where one must be, both are");
    apply(&mut planner, vec![side(&mib(300)), service("web", 1, |_| {})]);
    planner.plan();
    assert_eq!(both(&planner), "");
    let reason = why(&planner, "side");
    assert!(reason.starts_with("it shares the network of a.web.1: no suitable node"), "{reason}");
    assert!(planner.is_open(&key("side")) && !planner.misfits(&key("side")).is_empty());
    let stopped = |it: &mut Service| it.stopped = true;
    apply(&mut planner, vec![service("side", 1, joins), service("web", 1, stopped)]);
    planner.plan();
    assert_eq!(why(&planner, "side"), "it shares the network of a.web, which is stopped");
    apply(&mut planner, vec![side(&stopped), service("web", 1, |_| {})]);
    planner.plan();
    assert_eq!(
        (places(&planner, "side").as_str(), places(&planner, "web").as_str()),
        ("", "small:1")
    );
    assert_eq!(why(&planner, "side"), "", "it is as people want it");
}

#[test]
fn they_leave_a_drained_node_together() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n.clone())]);
    apply(&mut planner, pair(1));
    planner.plan();
    assert_eq!(both(&planner), "n1:1");
    let drained = Node { availability: Availability::Drain, ..n.clone() };
    planner.set_node(&id("n1"), drained.clone());
    planner.plan();
    // The place on the other node is kept for both, and neither is told of it yet.
    assert_eq!(both(&planner), "n2:1");
    assert_eq!((told(&planner, "n1"), told(&planner, "n2")), (String::new(), String::new()));
    planner.left(&key("web"), Slot(1));
    assert_eq!(planner.plan().nodes, [id("n2")].into());
    assert_eq!(told(&planner, "n2"), "side:1 web:1");
    planner.arrived(&key("web"), Slot(1));
    planner.plan();
    assert_eq!(
        (told(&planner, "n1"), told(&planner, "n2").as_str()),
        (String::new(), "side:1 web:1")
    );
    // Start-first: both are on both nodes until the first has come.
    let first =
        |it: &mut Service| it.update.order = limpet_protocol::assignment::UpdateOrder::StartFirst;
    apply(&mut planner, vec![service("side", 1, joins), service("web", 1, first)]);
    planner.set_node(&id("n1"), n);
    planner.set_node(&id("n2"), drained);
    planner.plan();
    assert_eq!(both(&planner), "n1:1 n2:1");
    assert_eq!(
        (told(&planner, "n1"), told(&planner, "n2")),
        ("side:1 web:1".into(), "side:1 web:1".into())
    );
    planner.arrived(&key("web"), Slot(1));
    planner.plan();
    assert_eq!(both(&planner), "n1:1");
}

#[test]
fn one_on_each_node_follows_too() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", node(1024, "south"))]);
    let global = |it: &mut Service| {
        it.mode = Mode::Global;
        it.placement.constraints =
            vec![constraint(Attribute::Label("site".to_owned()), true, "south")];
    };
    let side = service("side", 1, |it| {
        joins(it);
        it.mode = Mode::Global;
    });
    apply(&mut planner, vec![side.clone(), service("web", 1, global)]);
    planner.plan();
    assert_eq!(both(&planner), "n2:1");
    planner.set_node(&id("n3"), node(1024, "south"));
    planner.plan();
    assert_eq!(both(&planner), "n2:1 n3:1");
    let none = |it: &mut Service| {
        global(it);
        it.placement.constraints[0].value = "east".to_owned();
    };
    apply(&mut planner, vec![side, service("web", 1, none)]);
    planner.plan();
    let why = planner.why_nowhere(&key("side")).unwrap();
    assert_eq!(why, "it shares the network of a.web, which is on no node");
}

#[test]
fn a_follower_is_no_victim_and_takes_no_others_place() {
    let mib = |priority: i32, mib: u64| {
        move |service: &mut Service| {
            service.priority = priority;
            service.spec.resources.memory_reservation_bytes = Some(mib << 20);
        }
    };
    let mut planner = fleet(&[("n1", node(100, "north"))]);
    let side = service("side", 1, |it| {
        joins(it);
        mib(9, 40)(it);
    });
    apply(&mut planner, vec![side.clone(), service("web", 1, mib(0, 40))]);
    planner.plan();
    assert_eq!(both(&planner), "n1:1");
    // A greater one takes the place of both at once.
    apply(&mut planner, vec![side, service("web", 1, mib(0, 40)), service("top", 1, mib(5, 90))]);
    planner.plan();
    assert_eq!((both(&planner).as_str(), places(&planner, "top").as_str()), ("", "n1:1"));
    assert!(
        why(&planner, "side").contains("gave its place on n1 to a.top"),
        "{}",
        why(&planner, "side")
    );
}
