//! What a node has to know so that its containers find and reach others.
//!
//! The controller writes [`NodeNetwork`] into the assignment: which addresses are the node's, what the
//! services are called whose networks it takes part in, and which other nodes run them. Which instances
//! there are and which of them may get traffic is not in it: that changes often and must be known
//! without a controller, so nodes tell each other ([`Neighbour`]) through the tunnel between them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::byte_string;
use crate::id::{ApplicationName, InstanceId, NetworkName, NodeId, ServiceName};
use crate::spec::{EndpointMode, PublishedPort};

/// A range of addresses in CIDR notation (RFC 4632): an address and how many leading bits count. Bits
/// behind the prefix are zero.
///
/// ```
/// use limpet_protocol::network::Subnet;
/// let subnet: Subnet = "10.129.3.0/24".parse().unwrap();
/// assert!(subnet.contains("10.129.3.7".parse().unwrap()));
/// assert!(!subnet.contains("10.129.4.7".parse().unwrap()));
/// assert_eq!(subnet.nth(1).unwrap().to_string(), "10.129.3.1");
/// assert_eq!(subnet.nth(256), None);
/// assert!("10.129.3.1/24".parse::<Subnet>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Why something is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// It does not look like one.
    #[error("expected ADDRESS/BITS such as 10.128.0.0/10")]
    Shape,
    /// More bits than an address has.
    #[error("a prefix of {0} bits is longer than the address")]
    Prefix(u8),
    /// Bits behind the prefix are set.
    #[error("the address has bits behind its prefix of {0} bits")]
    HostBits(u8),
}

impl Subnet {
    /// Makes one of its parts.
    ///
    /// # Errors
    /// The prefix is too long, or the address has bits behind it.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, SubnetError> {
        let subnet = Self { address, prefix };
        if prefix > subnet.width() {
            return Err(SubnetError::Prefix(prefix));
        }
        if bits(address) & !subnet.mask() != 0 {
            return Err(SubnetError::HostBits(prefix));
        }
        Ok(subnet)
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    const fn width(&self) -> u8 {
        match self.address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// The bits of the prefix, all others zero, right-aligned to the width of the address.
    fn mask(&self) -> u128 {
        let all = if self.width() == 32 { u128::from(u32::MAX) } else { u128::MAX };
        let host = u32::from(self.width() - self.prefix);
        all & u128::MAX.checked_shl(host).unwrap_or(0)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && bits(address) & self.mask() == bits(self.address)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Its address with a number, counted from 0; none past its end.
    #[must_use]
    pub fn nth(&self, number: u128) -> Option<IpAddr> {
        let host = u32::from(self.width() - self.prefix);
        if number.checked_shr(host).unwrap_or(0) != 0 {
            return None;
        }
        let value = bits(self.address) | number;
        Some(match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(value).ok()?)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(value)),
        })
    }

    /// Which of its addresses one is, counted from 0; none if it is not in it.
    #[must_use]
    pub fn number_of(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| bits(address) & !self.mask())
    }

    /// The part with a number when it is cut into parts with a longer prefix; none past its end.
    #[must_use]
    pub fn part(&self, prefix: u8, number: u128) -> Option<Self> {
        if prefix < self.prefix || prefix > self.width() {
            return None;
        }
        let first = number.checked_shl(u32::from(self.width() - prefix))?;
        if prefix == self.prefix && number != 0 {
            return None;
        }
        Some(Self { address: self.nth(first)?, prefix })
    }

    /// Into how many parts with a longer prefix it can be cut.
    #[must_use]
    pub fn parts(&self, prefix: u8) -> u128 {
        let more = prefix.min(self.width()).saturating_sub(self.prefix);
        1_u128.checked_shl(u32::from(more)).unwrap_or(u128::MAX)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let (address, prefix) = text.split_once('/').ok_or(SubnetError::Shape)?;
        let address = address.parse().map_err(|_| SubnetError::Shape)?;
        let prefix = prefix.parse().map_err(|_| SubnetError::Shape)?;
        Self::new(address, prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: heapless::String<MAX_SUBNET_BYTES> = Deserialize::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Longest text of a subnet: an IPv6 address of 39 characters, a slash and three digits.
const MAX_SUBNET_BYTES: usize = 43;

/// The network of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNetwork {
    /// The IPv4 addresses of the whole fleet's containers.
    #[serde(rename = "p")]
    pub pool: Subnet,
    /// The part of it that is this node's. Its first usable address (number 1) is the node itself: the
    /// containers' gateway and name server.
    #[serde(rename = "s")]
    pub subnet: Subnet,
    /// The IPv6 addresses of the whole fleet's containers (unique local addresses, RFC 4193).
    #[serde(rename = "P")]
    pub pool6: Subnet,
    /// This node's part of them.
    #[serde(rename = "S")]
    pub subnet6: Subnet,
    /// The addresses that stand for services. They mean something on the node only, so they are the same
    /// on all nodes and no container has one.
    #[serde(rename = "v")]
    pub virtual_addresses: Subnet,
    /// The same for IPv6.
    #[serde(rename = "V")]
    pub virtual_addresses6: Subnet,
    /// The services that take part in a network of an instance on this node, and those that publish a
    /// port here, whether or not they run here.
    #[serde(rename = "e", default)]
    pub services: Vec<NetworkedService>,
    /// The nodes that this one talks to.
    #[serde(rename = "n", default)]
    pub peers: Vec<Peer>,
}

/// What a service is called, in which networks, and where it is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkedService {
    /// The application.
    #[serde(rename = "a")]
    pub application: ApplicationName,
    /// The service.
    #[serde(rename = "s")]
    pub service: ServiceName,
    /// Its networks, each with the further names that it has there.
    #[serde(rename = "n")]
    pub networks: BTreeMap<NetworkName, Vec<String>>,
    /// What its name stands for.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub mode: EndpointMode,
    /// The ports that this node forwards to it, each with the port of the node.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
}

/// Another node of the fleet, as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// Its public key (X25519, RFC 7748; WireGuard), 32 bytes.
    #[serde(rename = "k", with = "byte_string")]
    pub key: Vec<u8>,
    /// Where it may be reached, the likeliest first.
    #[serde(rename = "e")]
    pub endpoints: Vec<SocketAddr>,
    /// Its part of the pool.
    #[serde(rename = "s")]
    pub subnet: Subnet,
    /// Its part of the IPv6 pool.
    #[serde(rename = "S")]
    pub subnet6: Subnet,
    /// Whether it has the same value of the label `site` as this node.
    #[serde(rename = "t", default, skip_serializing_if = "core::ops::Not::not")]
    pub same_site: bool,
    /// The networks of this node that instances on it take part in: nothing else may pass.
    #[serde(rename = "w")]
    pub networks: Vec<NetworkName>,
}

/// What nodes tell each other through the tunnel: all their instances that the other may talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The instances, each with its address.
    #[serde(rename = "i")]
    pub instances: Vec<NeighbourInstance>,
}

/// One instance on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourInstance {
    /// Which.
    #[serde(rename = "i")]
    pub instance: InstanceId,
    /// Which attempt of it: two run while one takes the place of the other.
    #[serde(rename = "t")]
    pub attempt: u32,
    /// Its addresses: IPv4, and IPv6 where a network asks for it.
    #[serde(rename = "a")]
    pub addresses: Vec<IpAddr>,
    /// The networks it takes part in.
    #[serde(rename = "n")]
    pub networks: Vec<NetworkName>,
    /// Its host name, where it is another than the instance's.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Whether it may get traffic.
    #[serde(rename = "y")]
    pub ready: bool,
}

/// One message on the connection from a node to another, with its length before it in four bytes, the
/// highest first: all there is when it has changed, and otherwise a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourMessage {
    /// How soon the next one comes, in milliseconds. Who is silent for some times as long is gone.
    #[serde(rename = "w")]
    pub within_ms: u32,
    /// The instances; nothing is as before.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Neighbour>,
}

/// What a node says of its network (in [`crate::report::Report`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// Addresses of the instances that have one.
    #[serde(rename = "a", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<InstanceId, IpAddr>,
    /// Peers that do not answer: neither side reaches the other directly.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<NodeId>,
    /// How packets to other nodes are encrypted: by the kernel's WireGuard or by the agent's.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelKind>,
}

/// Who encrypts the traffic between nodes. Both speak WireGuard's protocol and talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelKind {
    /// The kernel.
    Kernel,
    /// The agent, where the kernel has no WireGuard.
    Userland,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
