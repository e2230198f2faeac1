//! Ports, devices and priorities.

use super::*;

fn port(udp: bool, address: &str, range: (u16, u16)) -> PortClaim {
    PortClaim { udp, address: address.parse().ok(), range }
}

#[test]
fn ports_of_a_node_exclude_each_other() {
    let n = node(1024, "north");
    let mut planner = fleet(&[("n1", n.clone()), ("n2", n)]);
    let with = |claims: Vec<PortClaim>, replicas| Wanted { claims, ..wanted(replicas) };
    let web = with(vec![port(false, "", (80, 80))], 3);
    want(&mut planner, &[("web", web.clone())]);
    planner.plan();
    assert_eq!(places(&planner, "web"), "n1:1 n2:2");
    assert_eq!(why(&planner, "web"), "no suitable node (2 nodes have port 80/tcp taken already)");
    // Another protocol and another range fit beside it; a range has room for two on each node.
    let dns = with(vec![port(true, "", (80, 80))], 2);
    let range = with(vec![port(false, "", (8000, 8001))], 5);
    want(&mut planner, &[("web", web), ("dns", dns), ("range", range)]);
    planner.plan();
    assert_eq!(places(&planner, "dns"), "n1:1 n2:2");
    assert_eq!(places(&planner, "range"), "n1:1,3 n2:2,4");
    assert_eq!(planner.unplaced(&key("range"))[0].slot, Slot(5));
    // What is freed is taken.
    want(&mut planner, &[("api", with(vec![port(false, "10.0.0.1", (80, 80))], 1))]);
    planner.plan();
    assert_eq!(places(&planner, "api"), "n1:1");
}

#[test]
fn only_nodes_with_the_device() {
    let with = |devices: Option<&[&str]>| {
        let mut n = node(1024, "north");
        n.facts.devices = devices.map(|all| all.iter().map(|path| (*path).to_owned()).collect());
        n
    };
    let serial = with(Some(&["/dev/ttyUSB0"]));
    let mut planner = fleet(&[("n1", with(Some(&[]))), ("n2", serial.clone())]);
    let devices = vec!["/dev/ttyUSB0".to_owned()];
    want(&mut planner, &[("gw", Wanted { devices, ..wanted(2) })]);
    planner.plan();
    assert_eq!(places(&planner, "gw"), "n2:1,2");
    // It is pulled out, and put in elsewhere.
    planner.set_node(&id("n2"), with(Some(&[])));
    planner.plan();
    assert_eq!(why(&planner, "gw"), "no suitable node (2 nodes lack the device /dev/ttyUSB0)");
    planner.set_node(&id("n1"), serial);
    planner.plan();
    assert_eq!(places(&planner, "gw"), "n1:1,2");
    // An agent that does not say may have it.
    let mut planner = fleet(&[("n1", with(None))]);
    let devices = vec!["/dev/ttyUSB0".to_owned()];
    want(&mut planner, &[("gw", Wanted { devices, ..wanted(1) })]);
    planner.plan();
    assert_eq!(places(&planner, "gw"), "n1:1");
}

fn heavy(mib: u64, priority: i32, replicas: u32) -> Wanted {
    let needs = Needs { memory_bytes: mib << 20, ..Needs::default() };
    Wanted { needs, priority, ..wanted(replicas) }
}

#[test]
fn the_lower_priority_gives_way_and_says_to_whom() {
    let mut planner = fleet(&[("n1", node(100, "north")), ("n2", node(100, "north"))]);
    let base = [("low", heavy(40, 0, 2)), ("mid", heavy(40, 5, 2))];
    want(&mut planner, &base);
    planner.plan();
    assert_eq!(
        (places(&planner, "low"), places(&planner, "mid")),
        ("n1:1 n2:2".into(), "n1:1 n2:2".into())
    );
    // The same priority pushes nobody out.
    let with = |high: Wanted| [base[0].clone(), base[1].clone(), ("high", high)];
    want(&mut planner, &with(heavy(40, 0, 1)));
    planner.plan();
    assert_eq!(places(&planner, "high"), "");
    // A greater one takes the place of the least, and of as few as it needs.
    want(&mut planner, &with(heavy(60, 9, 1)));
    planner.plan();
    assert_eq!(places(&planner, "high"), "n1:1");
    assert_eq!(
        (places(&planner, "low"), places(&planner, "mid")),
        ("n2:2".into(), "n1:1 n2:2".into())
    );
    assert_eq!(
        why(&planner, "low"),
        "gave its place on n1 to a.high (priority 9 before 0): no suitable node (2 nodes have too \
         little memory left: 40 MiB needed, at most 20 MiB free)"
    );
    // When there is room again the reason goes.
    want(&mut planner, &base);
    planner.plan();
    assert_eq!(
        (places(&planner, "low"), why(&planner, "low")),
        ("n1:1 n2:2".into(), String::new())
    );
    // A node that shrinks keeps the greater.
    want(&mut planner, &[("a_high", heavy(40, 5, 1)), ("z_low", heavy(40, 0, 1))]);
    planner.remove_node(&id("n2"));
    planner.plan();
    planner.set_node(&id("n1"), node(50, "north"));
    planner.plan();
    assert_eq!(
        (places(&planner, "a_high"), places(&planner, "z_low")),
        ("n1:1".into(), String::new())
    );
}

#[test]
fn of_two_that_wait_the_greater_is_placed_first() {
    let mut planner = fleet(&[("n1", node(50, "north"))]);
    want(&mut planner, &[("a", heavy(40, 0, 1)), ("b", heavy(40, 1, 1))]);
    planner.plan();
    assert_eq!((places(&planner, "a"), places(&planner, "b")), (String::new(), "n1:1".into()));
}

#[test]
fn a_global_service_makes_room_on_its_node_and_its_victims_wait_there() {
    let mut planner = fleet(&[("n1", node(100, "north")), ("n2", node(100, "north"))]);
    let all = |mib, priority| Wanted { mode: Mode::Global, ..heavy(mib, priority, 0) };
    want(&mut planner, &[("low", all(60, 0))]);
    planner.plan();
    want(&mut planner, &[("low", all(60, 0)), ("high", all(60, 1))]);
    planner.plan();
    assert_eq!(
        (places(&planner, "high"), places(&planner, "low")),
        ("n1:1 n2:1".into(), String::new())
    );
    assert!(why(&planner, "low").starts_with("gave its place on n1 to a.high"));
}

#[test]
fn limits_reserve_nothing() {
    let spec = serde_json::json!({
        "application": "a", "service": "web", "image": {"reference": "busybox"},
        "resources": {"memory_limit_bytes": 1 << 30, "cpu_limit_millis": 4000}
    });
    let service = Service::new(serde_json::from_value(spec).unwrap(), Mode::Global);
    assert_eq!(Wanted::of(&service, SpecHash([1; 32])).needs, Needs::default());
}
