//! Services follow their load, on a node and over the fleet, with the balancer in front.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

/// How soon a header line follows the last: the server gives up after 10 s of silence.
const KEEP_TALKING: Duration = Duration::from_millis(300);

fn fleet(nodes: &[&str]) -> Fleet {
    let mut fleet = Fleet::on_a_site();
    fleet.load_image(&limpet_images::demo_archive());
    for node in nodes {
        fleet.add_node(node, &[]);
    }
    fleet
}

/// A web server that is at its target with two connections.
fn compose(per: &str, (min, max): (u32, u32)) -> String {
    format!(
        "
services:
  web:
    image: limpet-demo
    command: [web, '0.0.0.0:8080']
    ports: ['8080:8080']
    stop_grace_period: 1s
    deploy:
      x-autoscale:
        per: {per}
        min: {min}
        max: {max}
        connections: 2
        down: {{window: 2s}}
"
    )
}

/// How many instances are ready, and how many nodes have one.
fn serving(fleet: &Fleet) -> (usize, usize) {
    let instances = fleet.instances();
    let ready = instances.iter().filter(|it| it["phase"] == "running");
    let nodes: std::collections::BTreeSet<_> =
        ready.clone().filter_map(|it| it["node"].as_str()).collect();
    (ready.count(), nodes.len())
}

/// Holds so many connections as long as something goes on. One that is closed is opened anew, so that
/// they come to be spread over who is there.
fn under_load<T>(fleet: &Fleet, (node, count): (&str, usize), work: impl FnOnce() -> T) -> T {
    let address: SocketAddr = format!("{}:8080", fleet.site().address(node)).parse().unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                fleet.site().at("hub", || {
                    while !ends.load(Ordering::SeqCst) {
                        // One that was led to an instance that goes is opened anew.
                        drop(talk(address, &ends));
                    }
                });
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        ends.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A request that does not come to its end for a while.
fn talk(address: SocketAddr, ends: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.write_all(b"GET / HTTP/1.1\r\n")?;
    for _ in 0..10 {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        std::thread::sleep(KEEP_TALKING);
        stream.write_all(b"x: y\r\n")?;
    }
    Ok(())
}

#[test]
fn a_node_runs_more_under_load_and_fewer_without() {
    let fleet = fleet(&["n1"]);
    fleet.apply("shop", &compose("node", (1, 3)), &["--wait"]);
    assert_eq!(serving(&fleet), (1, 1));
    under_load(&fleet, ("n1", 6), || {
        wait_for("three instances", || (serving(&fleet) == (3, 1)).then_some(()));
    });
    let explained = fleet.limpet(&["explain", "shop.web"]);
    assert!(explained.contains("between 1 and 3 on each node"), "{explained}");
    let top = fleet.limpet(&["top", "--no-stream"]);
    assert!(top.contains("connections") && top.contains("1-3"), "{top}");
    wait_for("one instance", || (serving(&fleet) == (1, 1)).then_some(()));
    let events = fleet.limpet(&["events"]);
    assert!(events.contains("shop.web runs 3 and not"), "{events}");
}

#[test]
fn bytes_over_the_network_are_seen_and_followed() {
    let fleet = fleet(&["n1"]);
    let compose = compose("node", (1, 2)).replace("connections: 2", "network: 1k");
    fleet.apply("shop", &compose, &["--wait"]);
    let address: SocketAddr = format!("{}:8080", fleet.site().address("n1")).parse().unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fleet.site().at("hub", || {
                while !ends.load(Ordering::SeqCst) {
                    drop(ask(address));
                }
            });
        });
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("two instances", || (serving(&fleet) == (2, 1)).then_some(()));
            wait_for("bytes in and out", || {
                let rows = fleet.limpet_json(&["top", "--no-stream"]);
                let flows = |key| rows[0][key].as_u64().is_some_and(|rate| rate > 0);
                let is_there = flows("received_bytes_per_second") && flows("sent_bytes_per_second");
                is_there.then_some(())
            });
        }));
        ends.store(true, Ordering::SeqCst);
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let top = fleet.limpet(&["top", "--no-stream"]);
    assert!(top.contains("network") && top.contains("B/s"), "{top}");
    assert!(top.contains("DISK FREE") && top.contains("ROOM"), "of the node too: {top}");
    wait_for("one instance", || (serving(&fleet) == (1, 1)).then_some(()));
}

/// One request with its answer.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn without_a_controller_a_node_goes_on_to_follow_the_load() {
    let mut fleet = fleet(&["n1"]);
    fleet.apply("shop", &compose("node", (1, 3)), &["--wait"]);
    fleet.kill_controller();
    let runs = |fleet: &Fleet| fleet.node("n1").container_pids().len();
    assert_eq!(runs(&fleet), 1);
    under_load(&fleet, ("n1", 6), || {
        wait_for("three containers", || (runs(&fleet) == 3).then_some(()));
    });
    wait_for("one container", || (runs(&fleet) == 1).then_some(()));
    fleet.start_controller();
    fleet.wait_ready("n1");
    wait_for("one instance", || (serving(&fleet) == (1, 1)).then_some(()));
}

#[test]
fn load_on_one_node_is_shared_by_three_and_given_back() {
    let fleet = fleet(&["n1", "n2", "n3"]);
    fleet.apply("shop", &compose("application", (1, 3)), &["--wait"]);
    assert_eq!(serving(&fleet), (1, 1));
    let idle = |fleet: &Fleet| fleet.instances().iter().filter(|it| it["phase"] == "idle").count();
    assert_eq!(idle(&fleet), 2);
    under_load(&fleet, ("n2", 9), || {
        wait_for("three nodes", || (serving(&fleet) == (3, 3)).then_some(()));
        let explained = fleet.limpet(&["explain", "shop.web"]);
        assert!(explained.contains("3 over the fleet, between 1 and 3"), "{explained}");
    });
    wait_for("one node", || (serving(&fleet) == (1, 1) && idle(&fleet) == 2).then_some(()));
}

#[test]
fn the_first_connection_wakes_a_service_that_has_no_instance_and_is_held() {
    let mut fleet = fleet(&["n1"]);
    fleet.apply("shop", &compose("node", (0, 2)), &["--wait"]);
    assert_eq!(serving(&fleet), (0, 0));
    let address: SocketAddr = format!("{}:8080", fleet.site().address("n1")).parse().unwrap();
    let ask = |fleet: &Fleet| {
        fleet.site().at("hub", || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    let rests = |fleet: &Fleet| {
        let none = || fleet.node("n1").container_pids().is_empty().then_some(());
        wait_for("no container", none);
    };
    // The very first one, without anybody who could be asked: the image was fetched ahead.
    wait_for("the image to be there", || {
        fleet.limpet(&["events"]).contains("limpet-demo is there").then_some(())
    });
    fleet.kill_controller();
    let answer = ask(&fleet);
    assert!(answer.contains("hello from shop.web.1"), "{answer}");
    rests(&fleet);
    // And once it is there, too.
    fleet.start_controller();
    fleet.wait_ready("n1");
    wait_for("the node to tell why", || {
        let events = fleet.limpet(&["events"]);
        events.contains("shop.web runs 1 and not 0: a connection waits for it").then_some(())
    });
    let answer = ask(&fleet);
    assert!(answer.contains("hello from shop.web.1"), "{answer}");
    rests(&fleet);
}
