//! Load: what the node is and what it lacks.
//!
//! In: the kernel's files and this program's build. Out: [`NodeFacts`] for the presence message. What
//! a node lacks the keeper knows best: its own words replace these conditions as soon as it is there.
//! [`usage`] is what containers use and [`node`] what the node does, read when somebody asks; [`sample`] the same of those that follow
//! their load, read all the time.

mod bound;
pub(crate) mod connections;
pub mod devices;
pub mod node;
pub mod sample;
mod strain;
pub mod traffic;
pub mod usage;

use std::collections::BTreeMap;
use std::path::Path;

use limpet_protocol::message::NodeFacts;

/// Where the kernel keeps device nodes.
pub const DEV: &str = "/dev";

/// What this node is, whose containers are in this cgroup.
#[must_use]
pub fn facts(labels: &BTreeMap<String, String>, cgroup: &str) -> NodeFacts {
    let memory = memory_bytes(&read("/proc/meminfo"));
    let platform = crate::image::platform();
    NodeFacts {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: host_name(),
        os: "linux".to_owned(),
        architecture: platform.architecture,
        variant: platform.variant.unwrap_or_default(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu_millis: cpu_millis(),
        memory_bytes: bound::limit(cgroup).map_or(memory, |limit| limit.min(memory)),
        labels: labels.clone(),
        conditions: crate::keeper::facts::NodeFacts::found_here().conditions(),
        devices: Some(devices::found_in(Path::new(DEV))),
        stages: true,
    }
}

/// The host name, or `localhost` where there is none.
#[must_use]
pub fn host_name() -> String {
    let name = read("/proc/sys/kernel/hostname");
    let name = name.trim();
    if name.is_empty() || name == "(none)" { "localhost".to_owned() } else { name.to_owned() }
}

/// The kernel's id of this boot.
#[must_use]
pub fn boot_id() -> String {
    read("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

fn cpu_millis() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus).unwrap_or(1).saturating_mul(1000)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    kibibytes.parse::<u64>().unwrap_or(0).saturating_mul(1024)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = facts(&BTreeMap::from([("site".to_owned(), "north".to_owned())]), "/none");
        assert!(facts.cpu_millis >= 1000 && facts.memory_bytes > 1 << 20, "{facts:?}");
        assert!(!facts.kernel.is_empty() && !facts.hostname.is_empty());
        assert_eq!(facts.labels["site"], "north");
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(memory_bytes("MemTotal:    2048 kB\n"), 2 << 20);
        assert_eq!(memory_bytes("garbage"), 0);
    }
}
