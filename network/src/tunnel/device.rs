//! The tunnel's device and what is routed to it, over rtnetlink.

use std::io;
use std::net::IpAddr;

use limpet_protocol::network::Subnet;
use rustix::io::Errno;

use super::TunnelError;
use crate::netlink::{ACKNOWLEDGE, Batch, CREATE, EXCLUSIVE, REPLACE, REQUEST, Refused, Socket};
use crate::picture::Addresses;

/// What WireGuard leaves of 1500 bytes over IPv6: 40 of IP, 8 of UDP, 32 of its own (its kernel module has the
/// same default).
pub(super) const MTU: u32 = 1420;

/// `NETLINK_ROUTE` (linux/netlink.h).
const ROUTE: isize = 0;
/// Types of messages (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const SET_LINK: u16 = 19;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
/// Attributes of a device (linux/if_link.h).
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const LINK_FAMILIES: u16 = 26;
const INFO_KIND: u16 = 1;
const SIX_GENERATE: u16 = 8;
/// Takes no address by itself (`IN6_ADDR_GEN_MODE_NONE`).
const GENERATE_NONE: u8 = 1;
/// `IFF_UP`.
const UP: u32 = 1;
/// Address families.
const INET: u8 = 2;
const INET6: u8 = 10;
/// Attributes of a route (linux/rtnetlink.h).
const ROUTE_TO: u16 = 1;
const ROUTE_DEVICE: u16 = 4;
const ROUTE_SOURCE: u16 = 7;
const MAIN_TABLE: u8 = 254;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
/// The number by which Limpet's routes are known, as in the data path.
const ROUTE_OWNER: u8 = 108;

/// A device by its name, and the socket to change it with.
#[derive(Debug)]
pub(super) struct Device {
    name: String,
    route: Socket,
}

impl Device {
    /// Of the network namespace of the calling thread.
    pub(super) fn new(name: &str) -> Result<Self, TunnelError> {
        let route = Socket::open(ROUTE).map_err(|source| TunnelError::Begin { source })?;
        Ok(Self { name: name.to_owned(), route })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks the kernel for a WireGuard device; false if it has none. One that is there is kept: its
    /// sessions went on while the agent was away.
    pub(super) fn make_wireguard(&self) -> Result<bool, TunnelError> {
        let mut batch = Batch::default();
        make_wireguard(&mut batch, &self.name);
        match self.route.perform(&batch) {
            Ok(()) => Ok(true),
            Err(refused) if refused.code() == Some(Errno::EXIST) => Ok(true),
            Err(refused) if refused.code() == Some(Errno::OPNOTSUPP) => Ok(false),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Removes the device; one that is gone is no error.
    pub(super) fn remove(&self) -> Result<(), TunnelError> {
        let mut batch = Batch::default();
        let kind = (DELETE_LINK, REQUEST | ACKNOWLEDGE);
        batch.add(format!("remove device {}", self.name), kind, &link_header(0), |link| {
            link.text(LINK_NAME, &self.name);
        });
        match self.route.perform(&batch) {
            Err(refused) if refused.code() != Some(Errno::NODEV) => Err(refused.into()),
            _ => Ok(()),
        }
    }

    /// Starts the device.
    pub(super) fn start(&self) -> Result<(), TunnelError> {
        let mut batch = Batch::default();
        generate_no_address(&mut batch, &self.name);
        // A kernel without IPv6 does not know the setting, and does not need it.
        self.route.attempt_all(&batch)?;
        let mut batch = Batch::default();
        start(&mut batch, &self.name);
        Ok(self.route.perform(&batch)?)
    }

    /// Routes subnets to the device, or no longer.
    pub(super) fn route(
        &self,
        subnets: impl IntoIterator<Item = Subnet>,
        source: Option<&Addresses>,
        to_device: bool,
    ) -> Result<(), TunnelError> {
        let index = self.route.device_index(&self.name)?;
        for subnet in subnets {
            let mut batch = Batch::default();
            let source = match (subnet.address(), source) {
                (IpAddr::V4(_), Some(source)) => Some(IpAddr::V4(source.v4)),
                (IpAddr::V6(_), Some(source)) => source.v6.map(IpAddr::V6),
                (_, None) => None,
            };
            route(&mut batch, (&self.name, index), (subnet, source), to_device);
            match self.route.perform(&batch) {
                Ok(()) => {}
                // A node without IPv6 has containers without.
                Err(_) if subnet.address().is_ipv6() => {}
                Err(refused) if !to_device && refused.code() == Some(Errno::SRCH) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        Ok(())
    }
}

impl From<Refused> for TunnelError {
    fn from(refused: Refused) -> Self {
        let attempt = refused.to_string();
        Self::Refused { attempt, source: refused.source }
    }
}

/// `struct ifinfomsg` of a device that is named by an attribute.
fn link_header(flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn make_wireguard(batch: &mut Batch, name: &str) {
    let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
    batch.add(format!("make device {name}"), (NEW_LINK, flags), &link_header(0), |link| {
        link.text(LINK_NAME, name).nested(LINK_INFO, |info| {
            info.text(INFO_KIND, "wireguard");
        });
    });
}

fn generate_no_address(batch: &mut Batch, name: &str) {
    let attempt = format!("keep {name} from taking an address");
    batch.add(attempt, (SET_LINK, REQUEST | ACKNOWLEDGE), &link_header(0), |link| {
        link.text(LINK_NAME, name).nested(LINK_FAMILIES, |families| {
            families.nested(INET6.into(), |six| {
                six.bytes(SIX_GENERATE, &[GENERATE_NONE]);
            });
        });
    });
}

fn start(batch: &mut Batch, name: &str) {
    let kind = (SET_LINK, REQUEST | ACKNOWLEDGE);
    batch.add(format!("start device {name}"), kind, &link_header(UP), |link| {
        link.text(LINK_NAME, name).native(LINK_MTU, MTU);
    });
}

fn route(
    batch: &mut Batch,
    (name, index): (&str, u32),
    (subnet, source): (Subnet, Option<IpAddr>),
    to_device: bool,
) {
    let (kind, flags, word) = if to_device {
        (NEW_ROUTE, REQUEST | ACKNOWLEDGE | CREATE | REPLACE, "lead")
    } else {
        (DELETE_ROUTE, REQUEST | ACKNOWLEDGE, "no longer lead")
    };
    let (family, scope) = if subnet.address().is_ipv4() { (INET, SCOPE_LINK) } else { (INET6, 0) };
    let header =
        [family, subnet.prefix(), 0, 0, MAIN_TABLE, ROUTE_OWNER, scope, UNICAST, 0, 0, 0, 0];
    batch.add(format!("{word} {subnet} to {name}"), (kind, flags), &header, |route| {
        route.bytes(ROUTE_TO, &octets(subnet.address())).native(ROUTE_DEVICE, index);
        if let Some(source) = source.filter(|_| to_device) {
            route.bytes(ROUTE_SOURCE, &octets(source));
        }
    });
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Used by those who read the kernel's answers.
pub(super) fn ipv4_or_6(octets: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

/// What the kernel said, if it is an error of the kernel's.
pub(super) fn is(error: &io::Error, code: Errno) -> bool {
    Errno::from_io_error(error) == Some(code)
}
