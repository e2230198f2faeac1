//! How a node is told to others.

use core::net::SocketAddr;

/// What others have to know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its number in the pool.
    pub number: u32,
    /// The value of its label `site`.
    pub site: Option<String>,
    /// How others reach it; none if nobody does.
    pub mesh: Option<MeshCard>,
    /// It was given up: others are asked first.
    pub lost: bool,
}

/// How a node is reached by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshCard {
    /// Its public key.
    pub key: Vec<u8>,
    /// Where it listens.
    pub endpoints: Vec<SocketAddr>,
}
