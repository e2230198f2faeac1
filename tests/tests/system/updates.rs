//! A service is updated while it is used.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use limpet_tests::fleet::Fleet;

const USERS: u32 = 4;
/// Together 200 requests a second.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// One instance, so that there is always one only because the new one comes before the old one
/// goes; for that time they share a port of their node. The new one is ready when it listens, and says so by a
/// file: a probe over the network could be answered by the other.
fn web(version: u32) -> String {
    format!(
        "
services:
  web:
    image: limpet-demo
    command: [web, '0.0.0.0:8080', /tmp/listening]
    network_mode: host
    environment: {{VERSION: '{version}'}}
    x-probe: {{ready: {{command: [/bin/workload, cat, /tmp/listening], interval: 100ms}}}}
    deploy: {{update_config: {{order: start-first, monitor: 500ms}}}}
"
    )
}

/// One request; what went wrong, if something did.
fn ask(address: SocketAddr) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    connection.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").map_err(said)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).map_err(said)?;
    let whole = answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hello from");
    if whole { Ok(()) } else { Err(format!("answered {answer:?}")) }
}

/// Asks at a steady pace until it is told to end; how often, and what went wrong.
fn user(address: SocketAddr, end: &AtomicBool) -> (usize, Vec<String>) {
    let (begun, mut asked, mut failures) = (Instant::now(), 0, vec![]);
    while !end.load(Ordering::Relaxed) {
        asked += 1;
        failures.extend(ask(address).err());
        let next = begun + BETWEEN_REQUESTS * u32::try_from(asked).unwrap();
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (asked, failures)
}

#[test]
fn not_one_request_of_two_hundred_a_second_fails() {
    let mut fleet = Fleet::on_a_wire();
    // Without it the kernel resets what waits in the queue of a listener that closes.
    fleet.wire().set("net.ipv4.tcp_migrate_req", "1");
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.apply("shop", &web(1), &["--wait"]);
    let address = format!("{}:8080", fleet.wire().node()).parse().unwrap();
    let end = AtomicBool::new(false);
    let (asked, failures) = std::thread::scope(|scope| {
        let users: Vec<_> = (0..USERS).map(|_| scope.spawn(|| user(address, &end))).collect();
        for version in 2..=4 {
            fleet.apply("shop", &web(version), &["--wait"]);
        }
        end.store(true, Ordering::Relaxed);
        let done = users.into_iter().map(|user| user.join().unwrap());
        done.fold((0, vec![]), |(asked, mut failures), (more, failed)| {
            failures.extend(failed);
            (asked + more, failures)
        })
    });
    let attempt = fleet.wait_running("web", 1)[0]["attempt"].clone();
    assert_eq!(attempt, 4, "it was replaced three times, and never restarted");
    assert!(asked > 200, "{asked} requests are too few to say anything");
    assert_eq!(failures, Vec::<String>::new(), "of {asked} requests");
}
