//! How long a service is on its way from one version to the next, slot by slot.
//!
//! In: how many replicas and which of a slot's containers goes first. Out, of Limpet alone: the time
//! from just before the apply to the last new instance's being ready, without what the probes took
//! themselves, from a container's start to its probe's first success. Of both systems, without any
//! check: the time to the first instruction of the last new container.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use limpet_tests::process::wait_for;
use serde_json::Value;

use crate::limpet::Limpet;
use crate::measure::{monotonic_ns, ms_between, output, stamps};
use crate::swarm::Swarm;

/// What makes an instance ready when its container runs.
const PROBE: &str = "x-probe: {ready: {command: [/bin/workload, ls, /], interval: 1s}}";

/// The version differs from round to round, so that there is something to update.
fn compose(version: usize, (replicas, order, probe): (usize, &str, &str)) -> String {
    format!(
        "
services:
  web:
    image: limpet-demo
    command: [stamp]
    network_mode: host
    environment: {{VERSION: '{version}'}}
    {probe}
    deploy: {{replicas: {replicas}, update_config: {{order: {order}, monitor: 0s}}}}
"
    )
}

fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// When each instance had an event of a kind first, since then.
fn first_of<'a>(events: &'a [Value], kind: &str, since_ms: u64) -> BTreeMap<&'a str, u64> {
    let mut found = BTreeMap::new();
    for event in events.iter().filter(|event| event["kind"] == kind) {
        let at_ms = event["at_ms"].as_u64().unwrap();
        if let Some(instance) = event["instance"].as_str().filter(|_| at_ms >= since_ms) {
            found.entry(instance).or_insert(at_ms);
        }
    }
    found
}

/// When the last of so many containers that began since then began.
fn last_of(stamps: Vec<u64>, replicas: usize, begin_ns: u64) -> Option<u64> {
    let new: Vec<u64> = stamps.into_iter().filter(|stamp| *stamp > begin_ns).collect();
    new.iter().max().copied().filter(|_| new.len() >= replicas)
}

impl Limpet {
    /// Milliseconds that each update took beyond its probes.
    pub(crate) fn probed_updates(
        &mut self,
        replicas: usize,
        order: &str,
        rounds: usize,
    ) -> Vec<f64> {
        let service = (replicas, order, PROBE);
        self.apply_version(0, service, &["--wait"]);
        let mut times = vec![];
        for version in 1..=rounds {
            let begin_ms = wall_ms();
            self.apply_version(version, service, &[]);
            let took_ms = wait_for("every new instance to be ready", || {
                let events = self.fleet.limpet_json(&["events", "--since", "5m"]);
                let events = events.as_array()?;
                let started = first_of(events, "started", begin_ms);
                let ready = first_of(events, "ready", begin_ms);
                let probes: u64 = ready.iter().map(|(it, at)| at - started[it]).sum();
                let last = ready.values().max()?;
                (ready.len() == replicas).then(|| (last - begin_ms).saturating_sub(probes))
            });
            times.push(took_ms as f64);
            self.fleet.limpet(&["wait", "bench", "--for", "settled"]);
        }
        self.down();
        times
    }

    /// Milliseconds of each update to the first instruction of the last new container.
    pub(crate) fn updates(&mut self, replicas: usize, rounds: usize) -> Vec<f64> {
        let service = (replicas, "stop-first", "");
        self.apply_version(0, service, &["--wait"]);
        let mut times = vec![];
        for version in 1..=rounds {
            let begin = monotonic_ns();
            self.apply_version(version, service, &[]);
            let last = wait_for("every new container to stamp", || {
                let found = stamps(&self.fleet.limpet(&["logs", "web", "--tail", "1"]));
                last_of(found, replicas, begin)
            });
            times.push(ms_between(begin, last));
            self.fleet.limpet(&["wait", "bench", "--for", "settled"]);
        }
        self.down();
        times
    }

    fn apply_version(&self, version: usize, service: (usize, &str, &str), more: &[&str]) {
        let file = self.fleet.write_compose("bench", &compose(version, service));
        let file = file.to_str().unwrap();
        self.fleet.limpet(&[&["apply", "-f", file, "--project-name", "bench"], more].concat());
    }
}

impl Swarm {
    /// The same of Docker Swarm, one task at a time and without a pause.
    pub(crate) fn updates(&mut self, replicas: usize, rounds: usize) -> Vec<f64> {
        self.up(replicas);
        let name = self.service();
        let mut times = vec![];
        for version in 1..=rounds {
            let begin = monotonic_ns();
            let variable = format!("VERSION={version}");
            output(self.docker().args(["service", "update", "--detach", "--quiet"]).args([
                "--no-resolve-image",
                "--update-delay",
                "0s",
                "--update-monitor",
                "0s",
                "--env-add",
                &variable,
                &name,
            ]));
            let last = wait_for("every new container to stamp", || {
                last_of(self.stamps_of(&self.containers()), replicas, begin)
            });
            times.push(ms_between(begin, last));
            wait_for("the update to be over", || {
                let state = ["service", "inspect", "-f", "{{.UpdateStatus.State}}", &name];
                (output(self.docker().args(state)).trim() == "completed").then_some(())
            });
        }
        self.down();
        times
    }
}
