//! How long it takes to find out what each node has to run of a service that is scaled as a whole, with one place on
//! each node: once for every node that is told, and once for all of them.
//! `cargo run --release -p limpet-controller --example grants`
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::collections::BTreeMap;
use std::time::Instant;

use limpet_controller::scale::{Placed, Share, shares};
use limpet_protocol::id::{NodeId, Slot};

/// Nodes for which it is done anew at most; of more the time is that of so many, multiplied.
const MAX_ANEW: usize = 100;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    println!("| nodes told | anew for each | once for all |");
    println!("|---|---|---|");
    for count in [100, 1_000, 10_000] {
        measure(count)?;
    }
    Ok(())
}

fn measure(count: u32) -> Result<(), Failed> {
    let names = (0..count).map(|number| format!("node-{number}").parse());
    let nodes: Vec<NodeId> = names.collect::<Result<_, _>>()?;
    // Half of them run, so that those who do and those who do not have to be told apart.
    let places = (1..).zip(&nodes).map(|(slot, node)| (Slot(slot), node, slot % 2 == 0));
    let placed: Vec<Placed<'_>> = places.collect();
    let begun = Instant::now();
    let anew = nodes.iter().take(MAX_ANEW);
    let least: u32 = anew
        .filter_map(|node| shares(count / 2, &placed).remove(node))
        .map(|share| share.least)
        .sum();
    let each = begun.elapsed() * count / u32::try_from(nodes.len().min(MAX_ANEW))?;
    let begun = Instant::now();
    let all: BTreeMap<NodeId, Share> =
        shares(count / 2, &placed).into_iter().map(|(node, share)| (node.clone(), share)).collect();
    let whole: u32 = nodes.iter().filter_map(|node| all.get(node)).map(|share| share.least).sum();
    assert!(least <= whole && whole == count / 2, "every instance has its node");
    println!("| {count} | {each:.1?} | {:.1?} |", begun.elapsed());
    Ok(())
}
