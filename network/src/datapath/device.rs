//! Containers' devices: a pair, one end in the container's namespace, the other on the node.
//!
//! There is no bridge: the node leads each address to its device, and the container leads everything to
//! the node. Both know the other's hardware address for good, so nobody asks for addresses and nobody
//! can answer in another's name.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

use super::route_messages::{self as message, Device, Mac};
use super::{Attach, Attached, Datapath, DatapathError, Found, Prepared, alias};
use crate::namespace::Namespace;
use crate::netlink::{Batch, Refused, Socket, attributes};
use crate::sysctl::{self, SettingError};
use crate::tag::MAX_DEVICES;

/// What a container calls its device.
const INSIDE: &str = "eth0";
/// The hardware address of the node's end of every pair: locally administered, "limpe".
const NODE_MAC: Mac = [0x02, b'l', b'i', b'm', b'p', b'e'];
/// How often a name is tried that is taken: devices of an earlier agent may be anywhere.
const MAX_NAMES: u32 = 1_024;

/// The hardware address of a container's end: locally administered, 'l' and its IPv4 address. It is the
/// same after a restart of the container and no other container of the fleet has it.
fn container_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, b'l', a, b, c, d]
}

/// What a new namespace is set to before it has a device: no addresses and routes but those that it is
/// given, and no waiting for duplicate addresses.
fn settle_namespace() -> Result<(), SettingError> {
    sysctl::set("ipv4/conf/all/accept_redirects", "0")?;
    sysctl::set("ipv4/conf/default/accept_redirects", "0")?;
    for name in ["accept_ra", "accept_redirects", "accept_dad", "dad_transmits"] {
        sysctl::set_if_there(&format!("ipv6/conf/default/{name}"), "0")?;
    }
    sysctl::set_if_there("ipv6/conf/default/addr_gen_mode", "1")
}

impl Datapath {
    /// Makes a namespace and a pair of devices ahead: everything that needs no address.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn prepare(&mut self) -> Result<Prepared, DatapathError> {
        let first = || (settle_namespace(), Socket::open(NETLINK_ROUTE));
        let (namespace, (settled, socket)) =
            Namespace::made_with(first).map_err(DatapathError::Namespace)?;
        settled?;
        let inside = socket.map_err(DatapathError::Socket)?;
        let device = self.make_pair(&namespace)?;
        let prepared = Prepared { device, namespace: namespace.into_fd(), inside };
        let mut batch = Batch::default();
        message::start(&mut batch, "lo");
        message::start(&mut batch, INSIDE);
        prepared.inside.perform(&batch)?;
        Ok(prepared)
    }

    /// Makes the pair, with the next name that is free.
    fn make_pair(&mut self, namespace: &Namespace) -> Result<String, DatapathError> {
        let mut last = None;
        for _ in 0..MAX_NAMES {
            let device = self.tag.device(self.next_device);
            self.next_device = (self.next_device + 1) % MAX_DEVICES;
            let mut batch = Batch::default();
            message::make_pair(&mut batch, (&device, NODE_MAC), (INSIDE, namespace.as_fd()));
            if self.ipv6 {
                message::generate_no_address(&mut batch, &device);
            }
            message::start(&mut batch, &device);
            match self.route.perform(&batch) {
                Ok(()) => return Ok(device),
                Err(error) if error.code() == Some(Errno::EXIST) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or(DatapathError::NoName, DatapathError::from))
    }

    /// Gives what was prepared to a container: addresses, routes, limits.
    ///
    /// # Errors
    /// The kernel refused something; what was prepared is gone.
    pub fn attach(
        &mut self,
        prepared: Prepared,
        attach: &Attach,
    ) -> Result<Attached, DatapathError> {
        self.attach_inside(&prepared, attach)?;
        self.attach_outside(&prepared, attach)?;
        let Prepared { device, namespace, .. } = prepared;
        Ok(Attached { device, namespace })
    }

    fn attach_inside(&self, prepared: &Prepared, attach: &Attach) -> Result<(), DatapathError> {
        let device = Device { name: INSIDE, index: prepared.inside.device_index(INSIDE)? };
        let mut batch = Batch::default();
        message::set_mac(&mut batch, device, container_mac(attach.addresses.v4));
        for (address, gateway) in self.families(attach) {
            message::add_address(&mut batch, device, address, 0);
            message::add_neighbour(&mut batch, device, gateway, NODE_MAC);
            message::add_default_route(&mut batch, device, gateway);
        }
        if let Some(rate) = attach.bandwidth.egress.filter(|_| self.limits) {
            message::limit_rate(&mut batch, device, rate);
        }
        Ok(prepared.inside.perform(&batch)?)
    }

    fn attach_outside(&self, prepared: &Prepared, attach: &Attach) -> Result<(), DatapathError> {
        let name = prepared.device.as_str();
        let device = Device { name, index: self.route.device_index(name)? };
        // Connections of the node's own to 127.0.0.1 are led to published ports; that containers do not
        // reach the node's 127.0.0.1 is for the rules to see to.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        let mut batch = Batch::default();
        let text = alias::write(&attach.owner, &attach.addresses);
        message::label(&mut batch, device, &text);
        for (address, gateway) in self.families(attach) {
            message::add_neighbour(&mut batch, device, address, container_mac(attach.addresses.v4));
            message::add_route(&mut batch, device, address, gateway);
        }
        if let Some(rate) = attach.bandwidth.ingress.filter(|_| self.limits) {
            message::limit_rate(&mut batch, device, rate);
        }
        Ok(self.route.perform(&batch)?)
    }

    /// Address and gateway of each family that the container and the node have.
    fn families(&self, attach: &Attach) -> Vec<(IpAddr, IpAddr)> {
        let four = (IpAddr::V4(attach.addresses.v4), IpAddr::V4(attach.gateway.v4));
        let six = attach.addresses.v6.zip(attach.gateway.v6).filter(|_| self.ipv6);
        let six = six.map(|(address, gateway)| (IpAddr::V6(address), IpAddr::V6(gateway)));
        core::iter::once(four).chain(six).collect()
    }

    /// The devices of this tag that belong to a container.
    ///
    /// # Errors
    /// The kernel refused to list them.
    pub fn attached(&mut self) -> Result<Vec<Found>, DatapathError> {
        let found = self.own_devices()?.into_iter().filter_map(|(device, alias)| {
            let (owner, addresses) = alias::read(&alias?)?;
            Some(Found { device, owner, addresses })
        });
        Ok(found.collect())
    }

    /// The devices of this tag, each with its alias.
    pub(super) fn own_devices(&self) -> Result<BTreeSet<(String, Option<String>)>, Refused> {
        const NAME: u16 = 3;
        const ALIAS: u16 = 20;
        const HEADER_BYTES: usize = 16;
        let mut request = Batch::default();
        message::list_links(&mut request);
        let prefix = self.tag.device_prefix();
        let read = |body: Vec<u8>| {
            let body = body.get(HEADER_BYTES..)?;
            let text = |kind| attributes(body).find(|a| a.kind == kind)?.text().map(str::to_owned);
            let name = text(NAME).filter(|name| name.starts_with(&prefix))?;
            Some((name, text(ALIAS)))
        };
        Ok(self.route.list(&request)?.into_iter().filter_map(read).collect())
    }

    /// Removes a device, and with it the container's end and the way to it; one that is gone is no
    /// error.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach(&mut self, device: &str) -> Result<(), DatapathError> {
        let mut batch = Batch::default();
        message::delete_link(&mut batch, device);
        match self.route.perform(&batch) {
            Err(error) if error.code() == Some(Errno::NODEV) => Ok(()),
            done => Ok(done?),
        }
    }
}
