//! What containers use, as their control groups count it.
//!
//! In: the run folder and the cgroup file systems. Out: an [`InstanceLoad`] for each container that
//! runs. Nothing is kept between two looks: a share of the processor is the difference of two, which
//! whoever looks makes. Reading a container's files takes some ten microseconds.

use limpet_protocol::call::InstanceLoad;
use limpet_protocol::load::Pressure;

use super::strain::avg10;
use super::traffic;
use crate::keeper::cgroup::Hierarchies;
use crate::runtime::{ContainerId, RuntimePaths};

/// Version 1 writes "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// The load of everything that runs, at this time of the node's clock. Who has a network of its own is found
/// there by its process.
#[must_use]
pub fn of_instances(
    paths: &RuntimePaths,
    network_of: impl Fn(&ContainerId) -> Option<u32>,
    at_ms: u64,
) -> Vec<InstanceLoad> {
    let Ok(hierarchies) = Hierarchies::find() else { return Vec::new() };
    let bundles = std::fs::read_dir(paths.bundles()).into_iter().flatten().flatten();
    let names = bundles.filter_map(|entry| entry.file_name().into_string().ok());
    let ids = names.filter_map(|name| name.parse::<ContainerId>().ok());
    let mut all: Vec<InstanceLoad> = ids
        .filter_map(|id| {
            let traffic = network_of(&id).and_then(traffic::of);
            let load = of_one(&hierarchies, paths, id, at_ms)?;
            let (received, sent) = traffic.map(|it| (it.received, it.sent)).unzip();
            Some(InstanceLoad { received_bytes: received, sent_bytes: sent, ..load })
        })
        .collect();
    all.sort_by(|a, b| a.instance.cmp(&b.instance));
    all.truncate(limpet_protocol::limits::MAX_INSTANCES_PER_NODE);
    all
}

/// None if nothing runs in it.
fn of_one(
    hierarchies: &Hierarchies,
    paths: &RuntimePaths,
    id: ContainerId,
    at_ms: u64,
) -> Option<InstanceLoad> {
    let cgroup = paths.cgroup(&id.to_string());
    let read = |controller, names| hierarchies.read(controller, &cgroup, names);
    let same = |name| (name, name);
    let pids = number(&read("pids", same("pids.current")))?;
    if pids == 0 {
        return None;
    }
    let used = number(&read("memory", ("memory.usage_in_bytes", "memory.current"))).unwrap_or(0);
    let reclaimable = reclaimable(&read("memory", same("memory.stat")));
    let limit = number(&read("memory", ("memory.limit_in_bytes", "memory.max")));
    Some(InstanceLoad {
        instance: id.instance,
        at_ms,
        cpu_us: cpu_us(&read("cpuacct", ("cpuacct.usage", "cpu.stat"))),
        memory_bytes: used.saturating_sub(reclaimable),
        memory_limit_bytes: limit.filter(|limit| *limit < NO_LIMIT),
        pids: u32::try_from(pids).unwrap_or(u32::MAX),
        pids_limit: number(&read("pids", same("pids.max"))).and_then(|max| u32::try_from(max).ok()),
        received_bytes: None,
        sent_bytes: None,
        pressure: pressure(read),
    })
}

/// Version 2 has a file for each, where the kernel counts that (Documentation/accounting/psi.rst).
fn pressure(
    read: impl Fn(&'static str, (&'static str, &'static str)) -> String,
) -> Option<Pressure> {
    let some = |name| avg10(&read("pressure", (name, name)), "some avg10=");
    let (cpu, memory) = (some("cpu.pressure")?, some("memory.pressure")?);
    Some(Pressure { cpu, memory, io: some("io.pressure").unwrap_or(0) })
}

pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| number(line.strip_prefix(name)?.strip_prefix(' ')?);
    text.lines().find_map(value)
}

/// Version 1 has nanoseconds alone in a file, version 2 microseconds in a line.
pub(super) fn cpu_us(text: &str) -> u64 {
    let of_v1 = number(text).map(|nanoseconds| nanoseconds / 1000);
    of_v1.or_else(|| field(text, "usage_usec")).unwrap_or(0)
}

/// Memory that the kernel takes back when it is wanted: files that were not used lately.
pub(super) fn reclaimable(stat: &str) -> u64 {
    field(stat, "total_inactive_file").or_else(|| field(stat, "inactive_file")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(cpu_us("1234567\n"), 1234);
        assert_eq!(cpu_us("usage_usec 77\nuser_usec 1\n"), 77);
        assert_eq!(cpu_us(""), 0);
        assert_eq!(reclaimable("inactive_file 3\ntotal_inactive_file 5\n"), 5);
        assert_eq!(reclaimable("anon 1\ninactive_file 3\n"), 3);
        assert_eq!(field("inactive_file_x 3\n", "inactive_file"), None);
        assert_eq!(number("max\n"), None);
        let v2 = |_, (_, name): (&str, &str)| match name {
            "cpu.pressure" => "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n".to_owned(),
            "memory.pressure" => "some avg10=0.01 avg60=0\nfull avg10=9.00\n".to_owned(),
            _ => String::new(),
        };
        assert_eq!(pressure(v2), Some(Pressure { cpu: 1_250, memory: 1, io: 0 }));
        assert_eq!(pressure(|_, _| String::new()), None);
    }
}
