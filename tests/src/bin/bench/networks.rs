//! What networks cost a start, and how long an instance that dies is still led to.
//!
//! In: how many rounds. Out: the time from just before the apply to a container's first instruction,
//! with a network, with none and in the node's own; and the time from the death of one of two instances to
//! the last connection to a published port that was led to it, asked every millisecond at the node
//! itself and at another that leads there through the tunnel.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::contender::SETTLE;
use crate::measure::{monotonic_ns, ms_between, stamps};

const NODES: [&str; 2] = ["near", "far"];
/// Longer than anything that is led well takes.
const PATIENCE: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(1);

/// Two nodes of a site.
pub(crate) struct Networks {
    fleet: Fleet,
}

impl Networks {
    pub(crate) fn start() -> Self {
        let mut fleet = Fleet::on_a_site();
        fleet.load_image(&limpet_images::demo_archive());
        for node in NODES {
            fleet.add_node(node, &[&format!("role={node}")]);
        }
        let networks = Self { fleet };
        // Brings the image to the node, and gives it addresses.
        networks.starts("default", 1);
        networks
    }

    fn apply(&self, service: &str) {
        let compose = format!("services:\n  it:\n    image: limpet-demo\n{service}\n");
        let file = self.fleet.write_compose("bench", &compose);
        self.fleet.limpet(&["apply", "-f", file.to_str().unwrap(), "--project-name", "bench"]);
    }

    fn down(&self) {
        self.fleet.limpet(&["rm", "bench"]);
        wait_for("an empty list", || self.fleet.instances().is_empty().then_some(()));
        std::thread::sleep(SETTLE);
    }

    /// Milliseconds until one container runs, with a network of a kind.
    pub(crate) fn starts(&self, kind: &str, rounds: usize) -> Vec<f64> {
        let mode = match kind {
            "default" => String::new(),
            mode => format!("    network_mode: {mode}\n"),
        };
        let place = "    deploy: {placement: {constraints: [node.labels.role == near]}}";
        let once = || {
            let begin = monotonic_ns();
            self.apply(&format!("    command: [stamp]\n{mode}{place}"));
            let stamp = wait_for("the container to stamp", || {
                let output = self.fleet.try_limpet(&["logs", "it", "--tail", "1"]);
                stamps(&String::from_utf8_lossy(&output.stdout)).pop()
            });
            self.down();
            ms_between(begin, stamp)
        };
        (0..rounds).map(|_| once()).collect()
    }

    /// Milliseconds during which connections are led to an instance that died. Both nodes run something of
    /// the application: only such nodes have its ports.
    pub(crate) fn failovers(&mut self, at: &str, rounds: usize) -> Vec<f64> {
        self.apply(
            "    command: [web, '0.0.0.0:8080']\n    ports: ['8080:8080']\n    x-probe: {ready: {tcp: {port: 8080}, interval: 100ms}}\n    deploy: {replicas: 2, placement: {constraints: [node.labels.role == near]}}
  other:
    image: limpet-demo
    command: [stamp]
    deploy: {placement: {constraints: [node.labels.role == far]}}",
        );
        let address: SocketAddr =
            format!("{}:8080", self.fleet.site().address(at)).parse().unwrap();
        let mut times = vec![];
        for _ in 0..rounds {
            wait_for("both to answer", || {
                let said: std::collections::BTreeSet<_> =
                    (0..8).map(|_| self.fleet.site().at("hub", || ask(address))).collect();
                (said.len() == 2 && !said.contains(&None)).then_some(())
            });
            times.push(self.failover(address));
        }
        self.down();
        times
    }

    fn failover(&mut self, address: SocketAddr) -> f64 {
        let pid = self.fleet.node_mut(NODES[0]).container_pids()[0];
        let (ends, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        let (died, last) = std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                self.fleet.site().at("hub", || {
                    let mut last_failed = 0;
                    while !ends.load(Ordering::SeqCst) {
                        if ask(address).is_none() {
                            last_failed = monotonic_ns();
                        }
                        begun.store(true, Ordering::SeqCst);
                        std::thread::sleep(EVERY);
                    }
                    last_failed
                })
            });
            wait_for("the first answer", || begun.load(Ordering::SeqCst).then_some(()));
            let died = monotonic_ns();
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
            std::thread::sleep(SETTLE);
            ends.store(true, Ordering::SeqCst);
            (died, asker.join().unwrap())
        });
        ms_between(died, last)
    }
}

/// Who answers; none if nobody does.
fn ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("hello from").then_some(answer)
}
