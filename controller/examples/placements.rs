//! How fast the planner places: 10,000 instances of 20 services on 2,000 nodes, and what single
//! changes cost in that fleet. `cargo run --release -p limpet-controller --example placements`
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::collections::BTreeMap;
use std::time::Instant;

use limpet_controller::plan::{Needs, Node, Planner, ServiceKey, Standing, Wanted};
use limpet_protocol::application::{Mode, Placement};
use limpet_protocol::id::{ApplicationName, NodeId, SpecHash};
use limpet_protocol::message::NodeFacts;

const NODES: u32 = 2_000;
const SERVICES: u32 = 20;
const REPLICAS: u32 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let application = ApplicationName::new("bench")?;
    let mut planner = Planner::default();
    for number in 0..NODES {
        planner.set_node(&name(number)?, node(number, Standing::Ready));
    }
    let mut services = BTreeMap::new();
    for number in 0..SERVICES {
        let service = format!("s{number}").parse()?;
        services.insert(ServiceKey { application: application.clone(), service }, wanted(REPLICAS));
    }
    planner.set_application(&application, services.clone());
    let start = Instant::now();
    let changes = planner.plan();
    let took = start.elapsed();
    let rate = f64::from(SERVICES * REPLICAS) / took.as_secs_f64();
    println!(
        "{} placements on {} nodes: {took:?}, {rate:.0}/s",
        SERVICES * REPLICAS,
        changes.nodes.len()
    );

    planner.set_node(&name(7)?, node(7, Standing::Lost));
    let start = Instant::now();
    let changes = planner.plan();
    println!("one node lost: {:?}, {} nodes changed", start.elapsed(), changes.nodes.len());

    if let Some(service) = services.values_mut().next() {
        *service = wanted(REPLICAS + 1);
    }
    planner.set_application(&application, services);
    let start = Instant::now();
    let changes = planner.plan();
    println!("one replica more: {:?}, {} nodes changed", start.elapsed(), changes.nodes.len());

    planner.set_node(&name(NODES)?, node(NODES, Standing::Ready));
    let start = Instant::now();
    planner.plan();
    println!("one node more, nothing to do: {:?}", start.elapsed());
    Ok(())
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
    };
    Node::of(&facts, &BTreeMap::new(), standing)
}

fn wanted(replicas: u32) -> Wanted {
    Wanted {
        placement: Placement { spread: vec!["rack".into()], ..Placement::default() },
        needs: Needs { memory_bytes: 64 << 20, cpu_millis: 100 },
        platform: Some("linux/arm64".into()),
        ..Wanted::new(SpecHash([1; 32]), Mode::Replicated { replicas })
    }
}
