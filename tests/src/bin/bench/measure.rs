//! What the kernel knows: clocks, memory, CPU time, wake-ups, bytes.

use std::fs;
use std::process::Command;

/// CLOCK_MONOTONIC in nanoseconds, the clock that the workload `stamp` prints.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Milliseconds between two readings of that clock.
pub(crate) fn ms_between(begin_ns: u64, end_ns: u64) -> f64 {
    end_ns.saturating_sub(begin_ns) as f64 / 1e6
}

/// Every stamp in a text: the words that are numbers and too long for anything else.
pub(crate) fn stamps(text: &str) -> Vec<u64> {
    let long = text.split_whitespace().filter(|word| word.len() > 8);
    long.filter_map(|word| word.parse().ok()).collect()
}

/// Runs a command that must succeed and gives its output.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

/// Memory of some processes, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages count by their share.
    pub(crate) pss_kib: u64,
    /// Pages of nobody else.
    pub(crate) private_kib: u64,
}

/// Adds up the memory of processes (`/proc/PID/smaps_rollup`, proc(5)).
pub(crate) fn memory(pids: &[u32]) -> Memory {
    let mut sum = Memory::default();
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        for line in text.lines() {
            let kib =
                || line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            if line.starts_with("Pss:") {
                sum.pss_kib += kib();
            } else if line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:") {
                sum.private_kib += kib();
            }
        }
    }
    sum
}

/// What processes have used since they began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Milliseconds of CPU time, over all threads. The kernel counts in ticks of 10 ms; where it keeps
    /// a finer count (`/proc/PID/schedstat`), that is taken.
    pub(crate) cpu_ms: f64,
    /// How often a thread waited and was woken.
    pub(crate) wake_ups: u64,
    /// Bytes that went to a block device.
    pub(crate) written_bytes: u64,
}

/// Adds up what processes have used.
pub(crate) fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read =
                |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let ran_ns = read("schedstat")
                .split(' ')
                .next()
                .and_then(|n| n.parse::<f64>().ok())
                .unwrap_or(0.0);
            sum.cpu_ms += ran_ns / 1e6;
            sum.wake_ups += field(&read("status"), "voluntary_ctxt_switches:");
        }
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        sum.written_bytes += field(&io, "write_bytes:");
    }
    sum
}

/// The number behind a name that begins a line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Every process below a process, itself included.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = vec![];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or("");
        if let Some(parent) = after_name.split_whitespace().nth(1).and_then(|n| n.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}
