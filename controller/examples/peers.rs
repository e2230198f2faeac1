//! What deciding the network of a fleet costs: one service on every node, a database on a few, and one
//! thing changed. Prints a Markdown table: the time until everybody's picture is decided, and how many
//! nodes are told something.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use limpet_controller::network::pool::{Pool, unique_local};
use limpet_controller::network::{Card, Fabric, Facts, MeshCard, Run};
use limpet_controller::plan::ServiceKey;
use limpet_protocol::id::{NodeId, SpecHash};

type Failure = Box<dyn std::error::Error>;

/// Nodes of one site.
const SITE: u32 = 20;

fn main() -> Result<(), Failure> {
    println!(
        "| nodes | all at once | one more deployed | a node joins | a node lost | a database moves |"
    );
    println!("|---|---|---|---|---|---|");
    for nodes in [100, 1_000, 10_000] {
        let (mut fleet, all) = Fleet::new(nodes)?;
        let show = |(time, told): (Duration, usize)| format!("{time:.1?}, {told} told");
        let deployed = fleet.deploys(7)?;
        let joined = fleet.joins(nodes)?;
        let lost = fleet.loses(11)?;
        let moved = fleet.moves((3, 4))?;
        let row = [(all, usize::try_from(nodes)?), deployed, joined, lost, moved].map(show);
        println!("| {nodes} | {} |", row.join(" | "));
    }
    Ok(())
}

struct Fleet {
    fabric: Fabric,
    runs: BTreeMap<u32, BTreeMap<ServiceKey, Run>>,
}

impl Fleet {
    /// `sensor` on every node, `db` on every thousandth and three more, both in one network.
    fn new(nodes: u32) -> Result<(Self, Duration), Failure> {
        let pool = Pool::new("10.0.0.0/8".parse()?, 24, unique_local("benchmark"))?;
        let mut fleet = Self { fabric: Fabric::new(pool), runs: BTreeMap::new() };
        let begun = Instant::now();
        for name in ["sensor", "db", "alone"] {
            let network = if name == "alone" { "own" } else { "fleet" };
            let networks = [(network.parse()?, [].into())].into();
            fleet.fabric.learn(spec(name), Facts { networks, ..Facts::default() });
            fleet.fabric.want(&key(name)?, Some(spec(name)));
        }
        for node in 0..nodes {
            fleet.joins_quietly(node)?;
            if node % 1_000 == 0 || (1..4).contains(&node) {
                fleet.run(node, "db", true)?;
            }
        }
        fleet.decide()?;
        Ok((fleet, begun.elapsed()))
    }

    fn joins_quietly(&mut self, node: u32) -> Result<(), Failure> {
        self.fabric.set_card(&id(node)?, Some(card(node, false)));
        self.run(node, "sensor", true)
    }

    fn run(&mut self, node: u32, service: &str, runs: bool) -> Result<(), Failure> {
        let all = self.runs.entry(node).or_default();
        if runs {
            let run = Run { specs: [spec(service)].into(), host_ports: vec![] };
            all.insert(key(service)?, run);
        } else {
            all.remove(&key(service)?);
        }
        self.fabric.set_runs(&id(node)?, all.clone());
        Ok(())
    }

    /// Decides, and looks at the picture of everybody whom it concerns.
    fn decide(&mut self) -> Result<usize, Failure> {
        let told = self.fabric.settle();
        for id in &told {
            self.fabric.picture(id).ok_or("a node has no picture")?;
        }
        Ok(told.len())
    }

    fn timed(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(Duration, usize), Failure> {
        let begun = Instant::now();
        change(self)?;
        let told = self.decide()?;
        Ok((begun.elapsed(), told))
    }

    fn deploys(&mut self, node: u32) -> Result<(Duration, usize), Failure> {
        self.timed(|it| it.run(node, "alone", true))
    }

    fn joins(&mut self, node: u32) -> Result<(Duration, usize), Failure> {
        self.timed(|it| it.joins_quietly(node))
    }

    fn loses(&mut self, node: u32) -> Result<(Duration, usize), Failure> {
        self.timed(|it| {
            it.fabric.set_card(&id(node)?, Some(card(node, true)));
            Ok(())
        })
    }

    fn moves(&mut self, (from, to): (u32, u32)) -> Result<(Duration, usize), Failure> {
        self.timed(|it| {
            it.run(from, "db", false)?;
            it.run(to, "db", true)
        })
    }
}

fn id(node: u32) -> Result<NodeId, Failure> {
    Ok(format!("node-{node}").parse()?)
}

fn key(service: &str) -> Result<ServiceKey, Failure> {
    Ok(ServiceKey { application: "fleet".parse()?, service: service.parse()? })
}

fn spec(service: &str) -> SpecHash {
    let mut hash = [0; 32];
    hash.iter_mut().zip(service.bytes()).for_each(|(to, from)| *to = from);
    SpecHash(hash)
}

fn card(node: u32, lost: bool) -> Card {
    let mesh = Some(MeshCard { key: vec![7; 32], endpoints: vec![] });
    Card { number: 256 + node, site: Some(format!("site-{}", node / SITE)), mesh, lost }
}
