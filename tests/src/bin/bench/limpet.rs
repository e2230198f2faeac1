//! Limpet as a contender: one controller, one node in a network namespace of its own.

use std::time::Duration;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::{program, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::contender::{Contender, SETTLE};
use crate::measure::{self, Memory, memory, monotonic_ns, ms_between, stamps, usage};
use crate::table::Row;

const NODE: &str = "bench";

pub(crate) struct Limpet {
    pub(crate) fleet: Fleet,
}

fn compose(replicas: usize) -> String {
    format!(
        "services:\n  stamp:\n    image: limpet-demo\n    command: [stamp]\n    network_mode: host\n    deploy:\n      replicas: {replicas}\n"
    )
}

impl Limpet {
    pub(crate) fn start() -> Self {
        let mut fleet = Fleet::on_a_wire();
        fleet.load_image(&limpet_images::demo_archive());
        fleet.add_node(NODE, &[]);
        let mut limpet = Self { fleet };
        // Brings the image to the node.
        limpet.deploy(1);
        limpet
    }

    fn running_stamps(&self, replicas: usize) -> Vec<u64> {
        wait_for("every container to stamp", || {
            let found = stamps(&self.fleet.limpet(&["logs", "stamp", "--tail", "1"]));
            (found.len() == replicas).then_some(found)
        })
    }

    fn up(&self, replicas: usize) -> f64 {
        let file = self.fleet.write_compose("bench", &compose(replicas));
        let begin = monotonic_ns();
        self.fleet.limpet(&["apply", "-f", file.to_str().unwrap(), "--project-name", "bench"]);
        self.fleet.wait_running("stamp", replicas);
        ms_between(begin, self.running_stamps(replicas).into_iter().max().unwrap())
    }

    pub(crate) fn down(&mut self) {
        self.fleet.limpet(&["rm", "bench"]);
        let node = self.fleet.node_mut(NODE);
        wait_for("all containers to be gone", || node.container_pids().is_empty().then_some(()));
        let fleet = &self.fleet;
        wait_for("an empty list", || fleet.instances().is_empty().then_some(()));
    }

    fn node_pids(&mut self) -> Vec<u32> {
        let node = self.fleet.node_mut(NODE);
        let keeper = node.keeper_pid();
        std::iter::once(node.agent().pid()).chain(keeper).collect()
    }

    pub(crate) fn binary_size(&self) -> Row {
        let size = std::fs::metadata(program("limpet-agent")).unwrap().len();
        Row {
            what: "agent, one static file apart from libc (release)".into(),
            ours: format!("{:.2} MB", size as f64 / 1e6),
            theirs: "-".into(),
            goal: "≤ 6 MB",
        }
    }

    /// Milliseconds from the start of a new agent to its report of everything it found, per round.
    pub(crate) fn adoptions(&mut self, rounds: usize) -> Vec<f64> {
        self.up(10);
        let mut times = vec![];
        for _ in 0..rounds {
            let before = self.fleet.node_mut(NODE).container_pids();
            self.fleet.node_mut(NODE).kill_agent();
            let seen = |fleet: &Fleet| {
                fleet.limpet(&["events", "-o", "json"]).matches("\"adopted\"").count()
            };
            let old = seen(&self.fleet);
            let begin = monotonic_ns();
            self.fleet.start_agent(NODE);
            let fleet = &self.fleet;
            wait_for("the adopted containers to be told", || {
                (seen(fleet) >= old + 10).then_some(())
            });
            times.push(ms_between(begin, monotonic_ns()));
            assert_eq!(
                before,
                self.fleet.node_mut(NODE).container_pids(),
                "the containers are the same processes"
            );
        }
        self.down();
        times
    }

    /// What idleness costs, with 10 containers.
    pub(crate) fn idle(&mut self, seconds: u64) -> Vec<Row> {
        self.up(10);
        // The threads for blocking work end by themselves after ten idle seconds.
        std::thread::sleep(Duration::from_secs(15));
        let pids = self.node_pids();
        let controller = self.fleet.controller().pid();
        let (before, before_controller) = (usage(&pids), usage(&[controller]));
        let wire = self.fleet.wire().bytes();
        std::thread::sleep(Duration::from_secs(seconds));
        let (after, after_controller) = (usage(&pids), usage(&[controller]));
        let wire = self.fleet.wire().bytes() - wire;
        let hours = seconds as f64 / 3600.0;
        let row = |what: &str, ours: String, goal| Row {
            what: what.into(),
            ours,
            theirs: "-".into(),
            goal,
        };
        let share = |a: f64, b: f64| (a - b) / (seconds as f64 * 10.0);
        vec![
            row(
                "idle CPU of agent and keeper, 10 containers",
                format!("{:.4} %", share(after.cpu_ms, before.cpu_ms)),
                "0.02 %",
            ),
            row(
                "idle wake-ups of agent and keeper",
                format!(
                    "{:.2} /s",
                    after.wake_ups.saturating_sub(before.wake_ups) as f64 / seconds as f64
                ),
                "",
            ),
            row(
                "idle bytes on the wire of the node",
                format!("{:.0} B/min", wire as f64 * 60.0 / seconds as f64),
                "≤ 300 B/min",
            ),
            row(
                "written to disk by agent and keeper",
                format!(
                    "{:.0} B/h",
                    after.written_bytes.saturating_sub(before.written_bytes) as f64 / hours
                ),
                "0",
            ),
            row(
                "idle CPU of the controller",
                format!("{:.4} %", share(after_controller.cpu_ms, before_controller.cpu_ms)),
                "",
            ),
            row(
                "written to disk by the controller",
                format!(
                    "{:.0} B/h",
                    after_controller.written_bytes.saturating_sub(before_controller.written_bytes)
                        as f64
                        / hours
                ),
                "0",
            ),
            row("controller with its broker", mib_of(controller), ""),
        ]
    }
}

fn mib_of(pid: u32) -> String {
    format!("{:.1} MiB PSS", memory(&[pid]).pss_kib as f64 / 1024.0)
}

impl Contender for Limpet {
    fn deploy(&mut self, replicas: usize) -> f64 {
        let time = self.up(replicas);
        self.down();
        time
    }

    fn kill_and_replace(&mut self) -> f64 {
        self.up(1);
        std::thread::sleep(SETTLE);
        let pid = *self.fleet.node_mut(NODE).container_pids().first().expect("a container runs");
        let begin = monotonic_ns();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        let stamp = wait_for("the replacement to stamp", || {
            let output = self.fleet.try_limpet(&["logs", "stamp", "--tail", "1"]);
            stamps(&String::from_utf8_lossy(&output.stdout))
                .into_iter()
                .find(|stamp| *stamp > begin)
        });
        self.down();
        ms_between(begin, stamp)
    }

    fn memory(&mut self, containers: usize) -> Memory {
        if containers > 0 {
            self.up(containers);
        }
        let sum = measure::memory(&self.node_pids());
        if containers > 0 {
            self.down();
        }
        sum
    }
}
