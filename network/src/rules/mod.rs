//! Who may reach whom, and where connections are led: the rules of a node as one value.
//!
//! In: the [`Picture`] and the [`Ground`]. Out: a [`Ruleset`], the same for the same picture. It leaves
//! to [`crate::datapath`] to tell it to the kernel.

mod ruleset;

pub use ruleset::Ruleset;

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
pub fn ruleset(_picture: &Picture, ground: &Ground) -> Ruleset {
    Ruleset { table: ground.tag.table() }
}
