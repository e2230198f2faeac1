//! Measures Limpet on this machine, beside Docker Swarm in the same run where it is installed.
//!
//! In: `--quick`, or `--idle`, `--updates` or `--networks` for what these cost alone. Out: a table on
//! standard output and, without any of them, in its place in `docs/benchmarks.md`.
//! How each figure is taken stands in the table's notes; nothing here decides pass or fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot measure stops with what went wrong"
)]

mod contender;
mod limpet;
mod measure;
mod networks;
mod swarm;
mod table;
mod updates;

use contender::Contender as _;
use limpet::Limpet;
use networks::Networks;
use swarm::Swarm;
use table::Table;

/// Where the figures of a whole run are kept.
const PAGE: &str = "docs/benchmarks.md";

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of each deploy.
    pub(crate) rounds: usize,
    /// Seconds that nothing is done, to see what idleness costs.
    pub(crate) idle_seconds: u64,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let quick = has("--quick");
    let effort = if quick {
        Effort { rounds: 3, idle_seconds: 15 }
    } else {
        Effort { rounds: 11, idle_seconds: 150 }
    };
    let mut table = Table::new();
    if has("--networks") {
        networks(&mut table, effort);
        println!("{}", table.text());
        return;
    }
    let mut limpet = Limpet::start();
    if has("--idle") {
        table.rows.extend(limpet.idle(effort.idle_seconds));
    } else if has("--updates") {
        updates(&mut table, effort, &mut limpet, Swarm::start().as_mut());
    } else {
        everything(&mut table, effort, &mut limpet);
    }
    println!("{}", table.text());
    if !quick && !has("--idle") && !has("--updates") {
        let page = std::fs::read_to_string(PAGE).unwrap();
        std::fs::write(PAGE, table.page(&page, effort)).unwrap();
        println!("written to {PAGE}");
    }
}

fn everything(table: &mut Table, effort: Effort, limpet: &mut Limpet) {
    let mut swarm = Swarm::start();
    deploys(table, effort, limpet, swarm.as_mut());
    updates(table, effort, limpet, swarm.as_mut());
    table.memory(
        "node memory, idle",
        &limpet.memory(0),
        swarm.as_mut().map(|s| s.memory(0)).as_ref(),
    );
    table.memory(
        "node memory, 50 containers",
        &limpet.memory(50),
        swarm.as_mut().map(|s| s.memory(50)).as_ref(),
    );
    drop(swarm);
    networks(table, effort);
    table.rows.push(limpet.binary_size());
    table.times(
        "agent killed → started again and its 10 containers adopted",
        &limpet.adoptions(effort.rounds),
        &[],
    );
    table.rows.extend(limpet.idle(effort.idle_seconds));
}

/// The two take turns, so that what else the machine does falls on both.
fn deploys(table: &mut Table, effort: Effort, limpet: &mut Limpet, mut swarm: Option<&mut Swarm>) {
    for replicas in [1, 10, 50] {
        let rounds = if replicas == 50 { effort.rounds.div_ceil(3) } else { effort.rounds };
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..rounds {
            ours.push(limpet.deploy(replicas));
            theirs.extend(swarm.as_mut().map(|swarm| swarm.deploy(replicas)));
        }
        table.times(&format!("deploy → running, {replicas} replica(s)"), &ours, &theirs);
    }
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..effort.rounds {
        ours.push(limpet.kill_and_replace());
        theirs.extend(swarm.as_mut().map(|swarm| swarm.kill_and_replace()));
    }
    table.times("kill -9 of a container → its replacement runs", &ours, &theirs);
}

/// The kinds take turns.
fn networks(table: &mut Table, effort: Effort) {
    let mut networks = Networks::start();
    let kinds = ["default", "none", "host"];
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..effort.rounds {
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.extend(networks.starts(kind, 1));
        }
    }
    for (kind, times) in kinds.iter().zip(&times) {
        table.times(&format!("deploy → running, network: {kind}"), times, &[]);
    }
    for (at, whose) in [("near", "its node's port"), ("far", "another node's port")] {
        let what = format!("kill -9 of one of two → {whose} leads to it no more");
        table.times(&what, &networks.failovers(at, effort.rounds), &[]);
    }
}

fn updates(table: &mut Table, effort: Effort, limpet: &mut Limpet, swarm: Option<&mut Swarm>) {
    let rounds = effort.rounds;
    for replicas in [1, 5] {
        for order in ["stop-first", "start-first"] {
            let what = format!("rolling update, {replicas} replica(s), {order}, beyond the probes");
            table.times(&what, &limpet.probed_updates(replicas, order, rounds), &[]);
        }
    }
    let theirs = swarm.map(|swarm| swarm.updates(5, rounds)).unwrap_or_default();
    let what = "update of 5 replicas, one at a time, stop-first, no checks → the last runs";
    table.times(what, &limpet.updates(5, rounds), &theirs);
}
