//! Who may reach whom, and where connections are led: the rules of a node as one value.
//!
//! In: the [`Picture`] and the [`Ground`]. Out: a [`Ruleset`], the same for the same picture. It leaves
//! to [`crate::datapath`] to tell it to the kernel.
//!
//! - [`ruleset`](Ruleset): the value; its text is that of nft(8).
//! - `sets`: who has which address, and what may be reached from where.
//! - `filter`: what may pass.
//! - `translate`: where connections are led, and from where they seem to come.

mod filter;
mod members;
mod ruleset;
mod text;
mod translate;

#[cfg(test)]
mod tests;

pub use filter::{OTHERS_V4, OTHERS_V6};
pub use ruleset::{
    Chain, Devices, Direction, Family, Field, Hook, Point, Refusal, Ruleset, Set, Side, Statement,
    Transport, Value,
};
pub(crate) use translate::HELD;

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::network::Subnet;

use crate::picture::Picture;
use crate::tag::Tag;

/// What the rules stand on that is not in the picture: how this node is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Whose rules they are.
    pub tag: Tag,
    /// The device that leads to other nodes, if there is one.
    pub tunnel: Option<String>,
    /// The TCP port on the gateway address where neighbours tell each other of their instances.
    pub neighbour_port: Option<u16>,
    /// The TCP port on the gateway address where connections to services are held that wake by them.
    pub holding_port: Option<u16>,
    /// Where nobody forwarded packets before Limpet: all that is not its own is dropped there.
    pub sole_forwarder: SoleForwarder,
}

/// Of which families nobody forwarded packets before Limpet did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoleForwarder {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// The rules that a picture asks for.
#[must_use]
pub fn ruleset(picture: &Picture, ground: &Ground) -> Ruleset {
    let mut drawing = Drawing::new(picture, ground);
    let members = members::of(picture);
    filter::draw(&mut drawing, &members);
    translate::draw(&mut drawing, &members);
    drawing.rules
}

/// Rules that are being written.
struct Drawing<'a> {
    picture: &'a Picture,
    ground: &'a Ground,
    /// IPv4, and IPv6 if the node has a gateway address of it.
    families: Vec<Family>,
    rules: Ruleset,
}

impl<'a> Drawing<'a> {
    fn new(picture: &'a Picture, ground: &'a Ground) -> Self {
        let six = picture.gateway.v6.map(|_| Family::V6);
        let table = ground.tag.table();
        Self {
            picture,
            ground,
            families: core::iter::once(Family::V4).chain(six).collect(),
            rules: Ruleset { table, sets: BTreeMap::new(), chains: BTreeMap::new() },
        }
    }

    /// The devices that lead to this node's containers.
    fn containers(&self, direction: Direction, is: bool) -> Statement {
        Statement::Device(direction, Devices::Begin(self.ground.tag.device_prefix()), is)
    }

    /// The device that leads to other nodes.
    fn tunnel(&self, direction: Direction, is: bool) -> Option<Statement> {
        let name = self.ground.tunnel.clone()?;
        Some(Statement::Device(direction, Devices::Named(name), is))
    }

    /// The node's gateway address, as a range.
    fn gateway(&self, family: Family) -> Option<Subnet> {
        let address = Picture::address_of(&self.picture.gateway, family == Family::V6)?;
        Subnet::new(address, if address.is_ipv4() { 32 } else { 128 }).ok()
    }

    /// The virtual addresses.
    fn virtual_range(&self, family: Family) -> Subnet {
        match family {
            Family::V4 => self.picture.virtual_addresses,
            Family::V6 => self.picture.virtual_addresses6,
        }
    }

    /// The addresses of all containers of the fleet.
    fn pool(&self, family: Family) -> Subnet {
        match family {
            Family::V4 => self.picture.pool,
            Family::V6 => self.picture.pool6,
        }
    }

    /// Adds a rule to a chain.
    fn rule(&mut self, chain: &str, rule: impl IntoIterator<Item = Statement>) {
        let chain = self.rules.chains.entry(chain.to_owned()).or_default();
        chain.rules.push(rule.into_iter().collect());
    }

    /// Says where packets enter a chain.
    fn hook(&mut self, chain: &str, hook: Hook) {
        self.rules.chains.entry(chain.to_owned()).or_default().hook = Some(hook);
    }

    /// Adds an element to a set. Those of a family that the node does not have are not there.
    fn member(&mut self, set: &str, element: Vec<Value>) {
        if let Some(Set::Members { elements, .. }) = self.rules.sets.get_mut(set) {
            elements.insert(element);
        }
    }

    /// Makes a set that may stay empty.
    fn set(&mut self, set: &str, key: &[Field]) {
        let empty = Set::Members { key: key.to_vec(), elements: BTreeSet::new() };
        self.rules.sets.entry(set.to_owned()).or_insert(empty);
    }

    /// Makes a map that may stay empty.
    fn map(&mut self, map: &str, key: &[Field]) {
        let empty = Set::Chains { key: key.to_vec(), elements: BTreeMap::new() };
        self.rules.sets.entry(map.to_owned()).or_insert(empty);
    }

    /// Says where it goes on with a key of a map. What was said first stays.
    fn lead(&mut self, map: &str, key: Vec<Value>, chain: &str) {
        if let Some(Set::Chains { elements, .. }) = self.rules.sets.get_mut(map) {
            elements.entry(key).or_insert_with(|| chain.to_owned());
        }
    }
}

/// The name of a set of one family.
fn of_family(name: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{name}/4"),
        Family::V6 => format!("{name}/6"),
    }
}
