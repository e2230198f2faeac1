//! Measures Limpet on this machine, beside Docker Swarm in the same run where it is installed.
//!
//! In: `--quick`, or `--idle` for what idleness costs alone. Out: a table on standard output and, without either, `docs/benchmarks.md`.
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
mod swarm;
mod table;

use contender::Contender;
use table::Table;

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of each deploy.
    pub(crate) rounds: usize,
    /// Seconds that nothing is done, to see what idleness costs.
    pub(crate) idle_seconds: u64,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let effort = if quick {
        Effort { rounds: 3, idle_seconds: 15 }
    } else {
        Effort { rounds: 11, idle_seconds: 150 }
    };
    let mut table = Table::new();
    let mut limpet = limpet::Limpet::start();
    if std::env::args().any(|argument| argument == "--idle") {
        table.rows.extend(limpet.idle(effort.idle_seconds));
        println!("{}", table.text());
        return;
    }
    let mut swarm = swarm::Swarm::start();
    // The two take turns, so that what else the machine does falls on both.
    for replicas in [1, 10, 50] {
        let rounds = if replicas == 50 { effort.rounds.div_ceil(3) } else { effort.rounds };
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..rounds {
            ours.push(limpet.deploy(replicas));
            if let Some(swarm) = &mut swarm {
                theirs.push(swarm.deploy(replicas));
            }
        }
        table.times(&format!("deploy → running, {replicas} replica(s)"), &ours, &theirs);
    }
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..effort.rounds {
        ours.push(limpet.kill_and_replace());
        if let Some(swarm) = &mut swarm {
            theirs.push(swarm.kill_and_replace());
        }
    }
    table.times("kill -9 of a container → its replacement runs", &ours, &theirs);
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
    table.rows.push(limpet.binary_size());
    table.times(
        "agent killed → started again and its 10 containers adopted",
        &limpet.adoptions(effort.rounds),
        &[],
    );
    table.rows.extend(limpet.idle(effort.idle_seconds));
    println!("{}", table.text());
    if !quick {
        std::fs::write("docs/benchmarks.md", table.page(effort)).unwrap();
        println!("written to docs/benchmarks.md");
    }
}
