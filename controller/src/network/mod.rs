//! Deciding what each node is told of the network: its addresses, the services it has to know, the nodes
//! it talks to. No clock, no chance, no I/O: values in, values out.
//!
//! In: what services are ([`Facts`] of their specs), what runs where ([`Run`]), how nodes are reached
//! ([`Card`]). Out: for each node a [`limpet_protocol::network::NodeNetwork`], and which of them may have
//! changed.
//!
//! - [`pool`], [`numbers`]: which addresses are whose.
//! - [`fabric`]: everything that is known, changed step by step.
//! - [`picks`]: the nodes that a node would have as peers: those that are nearest and run what it needs.
//! - [`links`]: who has whom in the end: both or none.
//! - [`picture`]: what a node is told.
//!
//! The result follows from what is known alone, not from the way there; the cost follows what changed and
//! whom that concerns, not the fleet.

mod card;
pub mod fabric;
mod facts;
mod links;
pub mod numbers;
mod picks;
mod picture;
pub mod pool;
mod ring;

pub use card::{Card, MeshCard};
pub use fabric::Fabric;
pub use facts::{Facts, Run};

/// Nodes that a node has as peers for one service that it does not run itself: enough to balance over, and
/// to lose some.
pub const MAX_PEERS_PER_SERVICE: usize = 8;
/// The same for a service that it runs itself: they are asked only when its own instances are not ready.
pub const FALLBACK_PEERS: usize = 2;
/// Peers of one node: their keys and endpoints have to fit in its assignment, and small boards keep a
/// session with each.
pub const MAX_PEERS: usize = 1024;
/// Services that one node is told of, for the same reason. Those that it runs come first.
pub const MAX_NETWORKED_SERVICES: usize = 512;
/// Addresses at which one node says that it can be reached; the first are the likeliest.
pub const MAX_ENDPOINTS: usize = 8;

#[cfg(test)]
mod tests;
