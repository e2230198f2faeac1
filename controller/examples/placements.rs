//! How fast the planner places, and what one change costs in fleets of different size, on one core.
//! `cargo run --release -p limpet-controller --example placements`
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use limpet_controller::plan::{Needs, Node, Planner, ServiceKey, Standing, Wanted};
use limpet_protocol::application::{Mode, Placement};
use limpet_protocol::id::{ApplicationName, NodeId, SpecHash};
use limpet_protocol::message::NodeFacts;

const FLEETS: [u32; 3] = [100, 1_000, 10_000];
/// Instances of each node, over all services.
const PER_NODE: u32 = 5;
/// Replicas of each service; of the one that is changed too.
const REPLICAS: u32 = 50;
/// How often one change is measured.
const ROUNDS: u32 = 201;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!(
        "| nodes | placements | placements/s | one replica more | a node lost | a node back | a node joins | a link drops |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for nodes in FLEETS {
        let mut fleet = Fleet::new(nodes)?;
        let placements = nodes * PER_NODE;
        let rate = fleet.fill(placements / REPLICAS)?;
        let more = fleet.replicas()?;
        let [lost, back] = fleet.losses()?;
        let joins = fleet.joins()?;
        let drops = fleet.drops()?;
        println!(
            "| {nodes} | {placements} | {rate:.0} | {more:?} | {lost:?} | {back:?} | {joins:?} | {drops:?} |"
        );
    }
    Ok(())
}

struct Fleet {
    planner: Planner,
    application: ApplicationName,
    services: BTreeMap<ServiceKey, Wanted>,
    nodes: u32,
}

impl Fleet {
    fn new(nodes: u32) -> Result<Self, Failure> {
        let mut planner = Planner::default();
        for number in 0..nodes {
            planner.set_node(&name(number)?, node(number, Standing::Ready));
        }
        let application = ApplicationName::new("bench")?;
        Ok(Self { planner, application, services: BTreeMap::new(), nodes })
    }

    /// Places all services at once; placements a second.
    fn fill(&mut self, services: u32) -> Result<f64, Failure> {
        for number in 0..services {
            let service = format!("s{number}").parse()?;
            let key = ServiceKey { application: self.application.clone(), service };
            self.services.insert(key, wanted(REPLICAS));
        }
        self.planner.set_application(&self.application, self.services.clone());
        let start = Instant::now();
        self.planner.plan();
        Ok(f64::from(services * REPLICAS) / start.elapsed().as_secs_f64())
    }

    /// The median of many rounds.
    fn median(
        &mut self,
        mut change: impl FnMut(&mut Self, u32) -> Result<Duration, Failure>,
    ) -> Result<Duration, Failure> {
        let mut times = vec![];
        for round in 0..ROUNDS {
            times.push(change(self, round)?);
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    fn planned(&mut self) -> Duration {
        let start = Instant::now();
        self.planner.plan();
        start.elapsed()
    }

    /// A small application of its own grows by one, again and again.
    fn replicas(&mut self) -> Result<Duration, Failure> {
        let application = ApplicationName::new("small")?;
        let key = ServiceKey { application: application.clone(), service: "web".parse()? };
        self.median(|fleet, round| {
            let services = [(key.clone(), wanted(round % REPLICAS))].into();
            let start = Instant::now();
            fleet.planner.set_application(&application, services);
            Ok(start.elapsed() + fleet.planned())
        })
    }

    /// A node is given up and comes back.
    fn losses(&mut self) -> Result<[Duration; 2], Failure> {
        let set = |fleet: &mut Self, number: u32, standing| -> Result<Duration, Failure> {
            let (id, node) = (name(number)?, node(number, standing));
            let start = Instant::now();
            fleet.planner.set_node(&id, node);
            Ok(start.elapsed() + fleet.planned())
        };
        let pick = |fleet: &Self, round: u32| round * 7 % fleet.nodes;
        let lost = self.median(|fleet, round| {
            let time = set(fleet, pick(fleet, round), Standing::Lost)?;
            set(fleet, pick(fleet, round), Standing::Ready)?;
            Ok(time)
        })?;
        let back = self.median(|fleet, round| {
            set(fleet, pick(fleet, round), Standing::Lost)?;
            set(fleet, pick(fleet, round), Standing::Ready)
        })?;
        Ok([lost, back])
    }

    fn joins(&mut self) -> Result<Duration, Failure> {
        let first = self.nodes;
        self.median(|fleet, round| {
            let (id, node) = (name(first + round)?, node(first + round, Standing::Ready));
            let start = Instant::now();
            fleet.planner.set_node(&id, node);
            Ok(start.elapsed() + fleet.planned())
        })
    }

    fn drops(&mut self) -> Result<Duration, Failure> {
        self.median(|fleet, round| {
            let number = round * 7 % fleet.nodes;
            let standing = if round % 2 == 0 { Standing::Unreachable } else { Standing::Ready };
            let (id, node) = (name(number)?, node(number, standing));
            let start = Instant::now();
            fleet.planner.set_node(&id, node);
            Ok(start.elapsed() + fleet.planned())
        })
    }
}

fn name(number: u32) -> Result<NodeId, limpet_protocol::id::NameError> {
    NodeId::new(&format!("node-{number}"))
}

fn node(number: u32, standing: Standing) -> Node {
    let facts = NodeFacts {
        agent_version: String::new(),
        hostname: format!("node-{number}"),
        os: "linux".into(),
        architecture: "arm64".into(),
        variant: "v8".into(),
        kernel: String::new(),
        cpu_millis: 4000,
        memory_bytes: 1 << 30,
        labels: [("rack".to_owned(), (number % 40).to_string())].into(),
        conditions: vec![],
        devices: None,
        stages: false,
    };
    Node::of(&facts, &BTreeMap::new(), standing)
}

fn wanted(replicas: u32) -> Wanted {
    Wanted {
        placement: Placement { spread: vec!["rack".into()], ..Placement::default() },
        needs: Needs { memory_bytes: 64 << 20, cpu_millis: 100, addresses: 0 },
        platform: Some("linux/arm64".into()),
        ..Wanted::new(SpecHash([1; 32]), Mode::Replicated { replicas })
    }
}
