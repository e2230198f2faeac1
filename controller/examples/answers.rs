//! How long people wait for `limpet plan` and `limpet explain`, and how long the control loop stands
//! still for them, in fleets of 1,000 and 10,000 nodes with five instances each.
//! `cargo run --release -p limpet-controller --example answers`
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use limpet_controller::dispatch::want;
use limpet_controller::explain::{ServiceCase, explain_service};
use limpet_controller::plan::{Node, Planner, ServiceKey, Standing, Wanted};
use limpet_controller::preview::{Question, preview};
use limpet_protocol::application::{Application, Mode, Service};
use limpet_protocol::id::NodeId;
use limpet_protocol::message::NodeFacts;
use limpet_protocol::spec::{ImageSource, Spec};

/// Times each is done; the median counts.
const ROUNDS: usize = 15;
/// Applications that run already, and the services of each.
const APPLICATIONS: u32 = 50;
const SERVICES: u32 = 4;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    println!(
        "| nodes | instances | copy of the planner (the loop stands still) | plan, one service of 20 changes | plan, new application | explain a slot that fits nowhere |"
    );
    println!("|---|---|---|---|---|---|");
    for nodes in [1_000, 10_000] {
        measure(nodes)?;
    }
    Ok(())
}

fn measure(nodes: u32) -> Result<(), Failed> {
    let mut planner = Planner::default();
    for number in 0..nodes {
        planner.set_node(&NodeId::new(&format!("node-{number}"))?, node(number));
    }
    let replicas = nodes * 5 / (APPLICATIONS * SERVICES);
    for number in 0..APPLICATIONS {
        want_all(&mut planner, &application(&format!("app-{number}"), SERVICES, replicas)?);
    }
    let old = application("shop", 20, 10)?;
    want_all(&mut planner, &old);
    planner.plan();
    let copy = median(|| drop(planner.clone()));
    let mut new = old.clone();
    if let Some(service) = new.services.values_mut().next() {
        service.spec.image.reference = "nginx:2".to_owned();
    }
    let of = |old: Option<&Application>, new: &Application| {
        median(|| {
            let specs = want::specs_of(new);
            drop(preview(&Question { now: &planner, old, new, specs }));
        })
    };
    let changed = of(Some(&old), &new);
    let added = of(None, &application("blog", 5, 20)?);
    let explained = explained(&mut planner)?;
    let instances = nodes * 5 + 200;
    println!(
        "| {nodes} | {instances} | {copy:.1?} | {changed:.1?} | {added:.1?} | {explained:.1?} |"
    );
    Ok(())
}

/// A service that no node has room for.
fn explained(planner: &mut Planner) -> Result<Duration, Failed> {
    let mut huge = application("huge", 1, 1)?;
    for service in huge.services.values_mut() {
        service.spec.resources.memory_reservation_bytes = Some(1 << 40);
    }
    want_all(planner, &huge);
    planner.plan();
    let (name, service) = huge.services.iter().next().ok_or("there is one")?;
    let key = ServiceKey { application: huge.name.clone(), service: name.clone() };
    Ok(median(|| {
        let unplaced = planner.unplaced(&key);
        let case = ServiceCase {
            scale: None,
            key: &key,
            service,
            spec: planner.wanted(&key).map(|wanted| wanted.spec),
            placed: planner.places(&key).count(),
            unplaced: (unplaced.len(), unplaced.first().map(|open| open.reason.clone())),
            misfits: planner.misfits(&key),
            rollout: None,
            rollout_is_held: false,
        };
        drop(explain_service(&case, Vec::new()));
    }))
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    took.sort();
    took[ROUNDS / 2]
}

fn want_all(planner: &mut Planner, application: &Application) {
    let specs = want::specs_of(application);
    let wanted = application.services.iter().filter_map(|(name, service)| {
        let key = ServiceKey { application: application.name.clone(), service: name.clone() };
        Some((key, Wanted::of(service, specs.get(name).copied().flatten()?)))
    });
    planner.set_application(&application.name, wanted.collect());
}

fn application(name: &str, services: u32, replicas: u32) -> Result<Application, Failed> {
    let name: limpet_protocol::id::ApplicationName = name.parse()?;
    let mut all = BTreeMap::new();
    for number in 0..services {
        let service: limpet_protocol::id::ServiceName = format!("s{number}").parse()?;
        let spec = Spec::new(name.clone(), service.clone(), ImageSource::new("nginx:1"));
        let mut it = Service::new(spec, Mode::Replicated { replicas });
        it.spec.resources.memory_reservation_bytes = Some(32 << 20);
        all.insert(service, it);
    }
    Ok(Application { name, services: all })
}

fn node(number: u32) -> Node {
    let facts = NodeFacts {
        agent_version: "0.1.0".into(),
        hostname: format!("node-{number}"),
        os: "linux".into(),
        architecture: "arm64".into(),
        variant: "v8".into(),
        kernel: "6.6".into(),
        cpu_millis: 4000,
        memory_bytes: 1 << 30,
        labels: [("rack".to_owned(), (number % 40).to_string())].into(),
        conditions: vec![],
        devices: None,
        stages: false,
    };
    Node::of(&facts, &BTreeMap::new(), Standing::Ready)
}
