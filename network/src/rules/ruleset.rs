//! Rules as a plain value: two that say the same are equal, and their text is that of nft(8).
//!
//! Only what Limpet says is here. How it is told to the kernel is for [`crate::nft`].

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::network::Subnet;

/// All rules of a node: one table of the family `inet`, which sees IPv4 and IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The table they are in.
    pub table: String,
    /// Its sets and maps.
    pub sets: BTreeMap<String, Set>,
    /// Its chains.
    pub chains: BTreeMap<String, Chain>,
}

/// Rules that are tried in order until one decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where it begins, unless it is entered from another chain only.
    pub hook: Option<Hook>,
    /// Its rules: of each, all statements hold up to the one that decides.
    pub rules: Vec<Vec<Statement>>,
}

/// Where packets enter a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Whether it translates addresses or filters.
    pub translates: bool,
    /// At which point of a packet's way.
    pub point: Point,
    /// Chains of a point are entered in the order of these numbers.
    pub priority: i32,
}

/// A point of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// It has come in.
    Prerouting,
    /// It is for the node.
    Input,
    /// It goes from one device to another.
    Forward,
    /// A process of the node sent it.
    Output,
    /// It goes out.
    Postrouting,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is looked at of a packet, to find it in a set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The name of the device that it came in by.
    InDevice,
    /// The address that it comes from.
    Source(Family),
    /// The address that it goes to.
    Destination(Family),
    /// The transport protocol.
    Transport,
    /// The port that it goes to.
    Port,
}

/// What a field can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// The name of a device.
    Device(String),
    /// An address.
    Address(IpAddr),
    /// A transport protocol.
    Transport(Transport),
    /// A port.
    Port(u16),
}

/// A set, or a map from such a set to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// What is in it.
    Members {
        /// The fields of a member.
        key: Vec<Field>,
        /// The members.
        elements: BTreeSet<Vec<Value>>,
    },
    /// Where it goes on with each.
    Chains {
        /// The fields of a key.
        key: Vec<Field>,
        /// From a key to the chain.
        elements: BTreeMap<Vec<Value>, String>,
    },
    /// Addresses of one family in a row, numbered from 0.
    Row(Family, Vec<IpAddr>),
}

/// The direction of a device, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The packet came in by it.
    In,
    /// The packet goes out by it.
    Out,
}

/// Names of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// The one with that name.
    Named(String),
    /// All whose names begin so.
    Begin(String),
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// That it comes from.
    Source,
    /// That it goes to.
    Destination,
    /// That the first packet of the connection went to, before it was translated.
    OriginalDestination,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As if nothing listened there: of TCP.
    Reset,
    /// As if nothing listened there: of all others.
    PortUnreachable,
    /// It is not allowed.
    Prohibited,
}

/// One statement of a rule: a condition, or what becomes of the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// It comes or goes by one of these devices, or does not.
    Device(Direction, Devices, bool),
    /// It is of that family.
    Family(Family),
    /// It has that transport protocol.
    Transport(Transport),
    /// It goes to that port.
    Port(u16),
    /// It is an echo request.
    EchoRequest(Family),
    /// An address of it is in a range, or is not.
    Address(Side, Subnet, bool),
    /// It goes to an address of the node.
    OwnDestination,
    /// It belongs to a connection that is allowed already, or is an error of one.
    Established,
    /// It belongs to no connection that can be.
    Invalid,
    /// The destination of its connection was translated.
    Translated,
    /// It begins a TCP connection; its segments will be no longer than the way that it goes can bear
    /// (RFC 6691). Nothing is decided.
    ClampSegments,
    /// Its fields are in a set.
    In(Vec<Field>, String),
    /// Its fields say where it goes on; if they do not, the next rule is tried.
    Dispatch(Vec<Field>, String),
    /// It goes on in another chain, and comes not back.
    Goto(String),
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and the sender is told.
    Refuse(Refusal),
    /// Its connection goes to the next address of a row, at a port if one is named.
    Balance {
        /// The family of the row.
        family: Family,
        /// The row.
        row: String,
        /// How many addresses that has.
        count: u32,
        /// The port.
        port: Option<u16>,
    },
    /// Its connection seems to come from that address.
    SourceBecomes(IpAddr),
    /// Its connection seems to come from the address of the device that it leaves by.
    Masquerade,
}

impl Set {
    /// How many elements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Members { elements, .. } => elements.len(),
            Self::Chains { elements, .. } => elements.len(),
            Self::Row(_, addresses) => addresses.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Field {
    /// The family that a packet must have for the field to be there.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::Source(family) | Self::Destination(family) => Some(family),
            Self::InDevice | Self::Transport | Self::Port => None,
        }
    }
}

impl Statement {
    /// The family that a packet must have for the statement to make sense.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Family(family) | Self::EchoRequest(family) | Self::Balance { family, .. } => {
                Some(*family)
            }
            Self::Address(_, range, _) => Some(Family::of(range.address())),
            Self::SourceBecomes(address) => Some(Family::of(*address)),
            Self::In(fields, _) | Self::Dispatch(fields, _) => {
                fields.iter().find_map(|field| field.family())
            }
            _ => None,
        }
    }
}
