//! Bound: how much memory the containers of a node may have together, where somebody limited that.
//!
//! In: the cgroup that all of them are in, and those above it up to the one that this machine sees as its
//! root: a board that is itself a container, a slice of systemd with `MemoryMax=`. Out: the limit that is
//! nearest to its end, with what is left of it. Such a limit is the node's memory: at its end the kernel's OOM
//! killer chooses among the containers as it does at the end of the machine's.

use std::fs::File;

use super::sample::read;
use super::usage::{field, number};
use crate::keeper::cgroup::Hierarchies;

/// Cgroups above each other that are looked at.
const MAX_LEVELS: usize = 8;

/// Memory of everything together, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it.
    pub(super) bytes: u64,
    /// What could be had.
    pub(super) available: u64,
}

impl Memory {
    /// Whether a smaller part of it is left than of another.
    fn is_shorter_than(self, other: Self) -> bool {
        let share = |one: Self, of: Self| u128::from(one.available) * u128::from(of.bytes);
        share(self, other) < share(other, self)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bounds {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    limit: File,
    used: File,
    stat: File,
    /// How long everything in it waited for memory; version 2 has that.
    pressure: Option<File>,
}

impl Bounds {
    /// None while the cgroup is not there: it comes with the first container.
    pub(super) fn find(hierarchies: &Hierarchies, cgroup: &str) -> Option<Self> {
        let open = |path: &str, names| File::open(hierarchies.file("memory", path, names)?).ok();
        let level = |path: &str| {
            Some(Level {
                limit: open(path, ("memory.limit_in_bytes", "memory.max"))?,
                used: open(path, ("memory.usage_in_bytes", "memory.current"))?,
                stat: open(path, ("memory.stat", "memory.stat"))?,
                pressure: open(path, ("memory.pressure", "memory.pressure")),
            })
        };
        open(cgroup, ("memory.stat", "memory.stat"))?;
        Some(Self { levels: levels(cgroup).filter_map(level).collect() })
    }

    /// The shortest of these and of what the machine has.
    pub(super) fn shortest(&self, machine: Memory) -> Memory {
        let bounds = self.levels.iter().filter_map(|level| level.read(machine));
        bounds
            .fold(machine, |least, bound| if bound.is_shorter_than(least) { bound } else { least })
    }

    /// The worst pressure within a limit.
    pub(super) fn pressure(&self, full: impl Fn(&str) -> Option<u32>) -> Option<u32> {
        let limited = self.levels.iter().filter(|level| level.limit().is_some());
        limited.filter_map(|level| read(level.pressure.as_ref()?, &full)).max()
    }
}

impl Level {
    fn limit(&self) -> Option<u64> {
        read(&self.limit, number)
    }

    /// None where there is no limit below what the machine has.
    fn read(&self, machine: Memory) -> Option<Memory> {
        let bytes = self.limit().filter(|limit| *limit < machine.bytes)?;
        let used = read(&self.used, number)?;
        let taken = used.saturating_sub(read(&self.stat, |text| Some(files(text)))?);
        let available = bytes.saturating_sub(taken).min(machine.available);
        Some(Memory { bytes, available })
    }
}

/// The least limit of the cgroup and those above it; none where there is none, in bytes.
pub(super) fn limit(cgroup: &str) -> Option<u64> {
    let hierarchies = Hierarchies::find().ok()?;
    let names = ("memory.limit_in_bytes", "memory.max");
    let limit = |path: &str| number(&hierarchies.read("memory", path, names));
    levels(cgroup).filter_map(limit).min()
}

/// A cgroup and those above it.
fn levels(cgroup: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(cgroup), |path| above(path)).take(MAX_LEVELS)
}

fn above(cgroup: &str) -> Option<&str> {
    cgroup.trim_end_matches('/').rsplit_once('/').map(|(above, _)| above)
}

/// Memory that holds parts of files: the kernel takes it back before it kills, as `MemAvailable` has it.
fn files(stat: &str) -> u64 {
    let either = |all: &str, own: &str| field(stat, all).or_else(|| field(stat, own)).unwrap_or(0);
    either("total_inactive_file", "inactive_file")
        .saturating_add(either("total_active_file", "active_file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn memory(bytes: u64, available: u64) -> Memory {
        Memory { bytes, available }
    }

    #[test]
    fn the_shortest_is_the_one_with_the_smallest_part_left() {
        assert!(memory(100, 5).is_shorter_than(memory(1_000, 60)));
        assert!(!memory(100, 6).is_shorter_than(memory(1_000, 60)));
        assert!(!memory(100, 90).is_shorter_than(memory(1_000, 60)));
        assert_eq!(levels("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", ""]);
        assert_eq!(levels("/a/b/").collect::<Vec<_>>(), ["/a/b/", "/a", ""]);
        assert_eq!(levels("").collect::<Vec<_>>(), [""]);
        assert_eq!(files("active_file 1\ninactive_file 2\n"), 3);
        assert_eq!(files("active_file 1\ntotal_active_file 5\ntotal_inactive_file 7\n"), 12);
    }

    #[test]
    fn a_limit_is_read_and_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let level = |name: &str, limit: &str, used: u64| {
            let file = |kind: &str, text: &str| {
                let path = dir.path().join(format!("{name}-{kind}"));
                std::fs::write(&path, text).unwrap();
                File::open(path).unwrap()
            };
            Level {
                limit: file("max", limit),
                used: file("current", &format!("{used}\n")),
                stat: file("stat", "active_file 10\ninactive_file 20\n"),
                pressure: Some(file("pressure", "7")),
            }
        };
        let machine = memory(10_000, 4_000);
        let full = |text: &str| text.trim().parse().ok();
        let none = Bounds { levels: vec![level("a", "max\n", 50), level("b", "20000\n", 50)] };
        assert_eq!(none.shortest(machine), machine);
        let limited = Bounds { levels: vec![level("c", "1000\n", 980), level("d", "max\n", 980)] };
        assert_eq!(limited.shortest(machine), memory(1_000, 50));
        assert_eq!(limited.pressure(full), Some(7));
        let roomy = Bounds { levels: vec![level("e", "9000\n", 30)] };
        assert_eq!(roomy.shortest(machine), machine, "less of the machine is left");
        assert_eq!(Bounds { levels: vec![level("f", "max\n", 0)] }.pressure(full), None);
    }
}
