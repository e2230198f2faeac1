//! The table: one row a figure, ours beside theirs.

use crate::Effort;
use crate::measure::Memory;

/// One row.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) goal: &'static str,
}

/// All rows so far.
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

/// Goals that the project set itself (docs/architecture.md); a figure without one is for watching.
fn goal(what: &str) -> &'static str {
    match what {
        "deploy → running, 1 replica(s)" => "p50 ≤ 60 ms",
        "deploy → running, 50 replica(s)" => "p50 ≤ 2000 ms",
        "kill -9 of a container → its replacement runs" => "p50 ≤ 100 ms",
        "node memory, idle" => "≤ 6 MiB PSS",
        "node memory, 50 containers" => "≤ 12 MiB PSS",
        _ => "",
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[((sorted.len() - 1) * percent).div_ceil(100)]
}

fn spread(times: &[f64]) -> String {
    if times.is_empty() {
        return "-".into();
    }
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&sorted, 50), percentile(&sorted, 99));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms (n={})", sorted.len())
}

fn mib(memory: &Memory) -> String {
    format!(
        "{:.1} MiB PSS, {:.1} MiB private",
        memory.pss_kib as f64 / 1024.0,
        memory.private_kib as f64 / 1024.0
    )
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: vec![] }
    }

    pub(crate) fn times(&mut self, what: &str, ours: &[f64], theirs: &[f64]) {
        self.push(what, spread(ours), spread(theirs));
    }

    pub(crate) fn memory(&mut self, what: &str, ours: &Memory, theirs: Option<&Memory>) {
        self.push(what, mib(ours), theirs.map_or_else(|| "-".into(), mib));
    }

    fn push(&mut self, what: &str, ours: String, theirs: String) {
        eprintln!("{what}: {ours} | {theirs}");
        self.rows.push(Row { what: what.into(), ours, theirs, goal: goal(what) });
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::from("| | Limpet | Docker Swarm | goal |\n|---|---|---|---|\n");
        for Row { what, ours, theirs, goal } in &self.rows {
            out += &format!("| {what} | {ours} | {theirs} | {goal} |\n");
        }
        out
    }

    pub(crate) fn page(&self, effort: Effort) -> String {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = crate::measure::output(std::process::Command::new("date").arg("+%Y-%m-%d"));
        format!(
            "# Benchmarks\n\nWritten by `tests/bench` on {date} \
             ({cpus} CPUs, {arch}, Linux {kernel}, cgroup v1, other load possible). Limpet and Docker Swarm took turns in one run, on the same machine, \
             with the same image already on the node and host networking. {rounds} rounds each.\n\n{table}\n## How each figure is taken\n\n\
             - **deploy → running**: from just before the deploy command is executed (`limpet apply`, `docker service create --detach`) to the first instruction of \
             the last container, which prints CLOCK_MONOTONIC.\n\
             - **kill -9 → replacement**: from the signal to the first instruction of the new container. Swarm runs with `--restart-delay 0s`.\n\
             - **node memory**: `/proc/PID/smaps_rollup` over agent and keeper; for Swarm over dockerd, containerd and all shims (its manager is the same dockerd).\n\
             - **idle**: {idle} s with one node and 10 containers. Wire bytes are both directions of the node's own network device, Ethernet headers included. \
             Written bytes are what the kernel counts for the block device (`/proc/PID/io`).\n",
            arch = std::env::consts::ARCH,
            rounds = effort.rounds,
            idle = effort.idle_seconds,
            table = self.text(),
            date = date.trim(),
            kernel = kernel.trim(),
        )
    }
}
