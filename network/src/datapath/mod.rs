//! Devices, namespaces and rules as the kernel has them.
//!
//! In: what is wanted. Out: what is. [`Datapath`] blocks (a few milliseconds a call) and belongs to one
//! thread, which stays in the node's network namespace. The kernel's state is the only memory: an agent
//! that starts again finds what it made by the tag in names and marks.
//!
//! - `ground`: the gateway address and forwarding.
//! - `device`: containers' namespaces and devices.
//! - `table`: the rules.
//! - `flows`: what is forgotten after rules have changed.
//! - `lack`: what the kernel cannot do.

mod alias;
mod device;
mod flows;
mod ground;
mod lack;
mod route_messages;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use limpet_protocol::network::Subnet;
use limpet_protocol::spec::Bandwidth;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

pub use lack::Lack;

use crate::netlink::{Refused, Socket};
use crate::picture::{Addresses, Attempt};
use crate::sysctl::{self, SettingError};
use crate::tag::Tag;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel refused a message.
    #[error("{attempt}")]
    Refused {
        /// What was attempted, and what the kernel said to it.
        attempt: String,
        /// Its error number.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be made.
    #[error("make a network namespace")]
    Namespace(#[source] io::Error),
    /// The kernel cannot be talked to.
    #[error("open a netlink socket")]
    Socket(#[source] io::Error),
    /// A setting below `/proc/sys` was refused.
    #[error("{attempt}")]
    Setting {
        /// Which, to what.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// All names of devices that were tried are taken.
    #[error("find a name for a device: all that were tried are taken")]
    NoName,
    /// The kernel has no rules ([`Lack::Rules`]).
    #[error("apply rules: the kernel has no nf_tables")]
    NoRules,
}

impl From<Refused> for DatapathError {
    fn from(refused: Refused) -> Self {
        Self::Refused { attempt: refused.to_string(), source: refused.source }
    }
}

impl From<SettingError> for DatapathError {
    fn from(error: SettingError) -> Self {
        Self::Setting { attempt: error.to_string(), source: error.source }
    }
}

/// The addresses that the node itself has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The containers' gateway and name server. Without the IPv6 address nothing of IPv6 is touched.
    pub addresses: Addresses,
    /// The addresses of all containers of the fleet, and those of this node's: what leads nowhere else is
    /// refused, and leaves the node in no other way.
    pub pool: Subnet,
    /// The same for IPv6.
    pub pool6: Subnet,
    /// Those of this node's containers.
    pub subnet: Subnet,
    /// The same for IPv6.
    pub subnet6: Subnet,
    /// The virtual addresses: they are the node's own, so that its processes can use them too, and so
    /// that one for which nobody is ready is refused at once.
    pub virtual_addresses: Subnet,
    /// The same for IPv6.
    pub virtual_addresses6: Subnet,
}

/// What a container's network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Whose it is.
    pub owner: Attempt,
    /// Its addresses.
    pub addresses: Addresses,
    /// The node, as the container sees it.
    pub gateway: Addresses,
    /// How much may come in and go out.
    pub bandwidth: Bandwidth,
}

/// A namespace with a device that lacks an address only: what takes time and can be done ahead. It is
/// gone when it is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// The node's end of its device.
    pub device: String,
    namespace: OwnedFd,
    /// A socket in it: what is left to do there needs no thread.
    inside: Socket,
}

/// A container's network. The kernel removes it when neither this descriptor nor a process holds it.
#[derive(Debug)]
pub struct Attached {
    /// The node's end of its device.
    pub device: String,
    /// The network namespace.
    pub namespace: OwnedFd,
}

/// A device that is there, whichever agent of this tag made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node's end.
    pub device: String,
    /// Whose it is.
    pub owner: Attempt,
    /// Its addresses.
    pub addresses: Addresses,
}

/// What became of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// They took the place of others.
    Changed,
    /// They were there already.
    Same,
}

/// The node's devices and rules.
#[derive(Debug)]
pub struct Datapath {
    tag: Tag,
    route: Socket,
    /// Not there if the kernel has no nf_tables.
    rules: Option<Socket>,
    last: Option<table::Last>,
    next_device: u32,
    /// Devices that were given up since the last rules, and before.
    given_up: BTreeSet<String>,
    due: BTreeSet<String>,
    /// Whether the kernel has IPv6 and can limit rates.
    ipv6: bool,
    limits: bool,
    /// Whether the gateway has an IPv6 address.
    forwards_v6: bool,
}

impl Datapath {
    /// Finds out what the kernel can do and what is there. Each [`Lack`] is a sentence for people.
    ///
    /// # Errors
    /// The kernel cannot be talked to.
    pub fn open(tag: Tag) -> Result<(Self, Vec<Lack>), DatapathError> {
        let route = Socket::open(NETLINK_ROUTE).map_err(DatapathError::Socket)?;
        let mut lacks = lack::of_devices(&route, tag);
        let rules = Socket::open(NETLINK_NETFILTER).ok();
        match &rules {
            Some(socket) => lacks.extend(lack::of_rules(socket, tag)?),
            None => lacks.extend([Lack::Rules]),
        }
        let ipv6 = sysctl::get("ipv6/conf/all/forwarding").is_some();
        if !ipv6 {
            lacks.insert(Lack::Ipv6);
        }
        let rules = rules.filter(|_| !lacks.contains(&Lack::Rules));
        let limits = !lacks.contains(&Lack::Limits);
        let mut datapath = Self {
            tag,
            route,
            rules,
            last: None,
            next_device: 0,
            given_up: BTreeSet::new(),
            due: BTreeSet::new(),
            ipv6,
            limits,
            forwards_v6: false,
        };
        let known: BTreeSet<_> = datapath.own_devices()?;
        let numbers = known.iter().filter_map(|(name, _)| tag.device_number(name));
        datapath.next_device = numbers.max().map_or(0, |last| last + 1);
        Ok((datapath, lacks.into_iter().collect()))
    }
}
