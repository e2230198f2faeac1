//! The table: one row a figure, ours beside theirs.

use crate::Effort;
use crate::measure::Memory;

/// Between these two lines of the page stands what a run measured.
const BEGIN: &str = "<!-- tests/bench: begin -->";
const END: &str = "<!-- tests/bench: end -->";

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
        _ if what.ends_with("leads to it no more") => "p50 ≤ 100 ms",
        _ if what.starts_with("rolling update, 1") => "p50 ≤ 400 ms",
        _ if what.starts_with("rolling update") => "p50 ≤ 400 ms a replica",
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

    /// The page with this run's part in the place of the last one; what people wrote around it stays.
    ///
    /// # Panics
    /// When the page does not say where that part is.
    pub(crate) fn page(&self, old: &str, effort: Effort) -> String {
        let (before, rest) = old.split_once(BEGIN).expect("the page has a begin of the table");
        let (_, after) = rest.split_once(END).expect("the page has an end of the table");
        format!("{before}{BEGIN}\n{}{END}{after}", self.part(effort))
    }

    fn part(&self, effort: Effort) -> String {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = crate::measure::output(std::process::Command::new("date").arg("+%Y-%m-%d"));
        format!(
            "Written by `tests/bench` on {date} \
             ({cpus} CPUs, {arch}, Linux {kernel}, cgroup v1, other load possible). Limpet and Docker Swarm took turns in one run, on the same machine, \
             with the same image already on the node and host networking. {rounds} rounds each; {idle} s of idleness.\n\n{table}",
            arch = std::env::consts::ARCH,
            rounds = effort.rounds,
            idle = effort.idle_seconds,
            table = self.text(),
            date = date.trim(),
            // What comes after a `-` names who built it.
            kernel = kernel.trim().split('-').next().unwrap_or_default(),
        )
    }
}
