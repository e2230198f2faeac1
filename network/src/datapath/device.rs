//! Containers' devices: a pair, one end in the container's namespace, the other on the node.
//!
//! There is no bridge: the node leads each address to its device, and the container leads everything to
//! the node. Both know the other's hardware address for good, so nobody asks for addresses and nobody
//! can answer in another's name.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

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

/// How long, and how often, a new device is waited for: 50 ms, when nothing has gone wrong but time.
const WAIT: Duration = Duration::from_millis(1);
const MAX_WAITS: usize = 50;

/// The hardware address of a container's end: locally administered, 'l' and its IPv4 address. It is the
/// same after a restart of the container and no other container of the fleet has it.
fn container_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, b'l', a, b, c, d]
}

/// What a new namespace is set to before it has a device: no addresses and routes but those that it is
/// given, no waiting for duplicate addresses, and any port and `ping` for any user, as Docker has it
/// since 20.10.
fn settle_namespace() -> Result<(), SettingError> {
    sysctl::set_if_there("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::set_if_there("ipv4/ping_group_range", "0 2147483647")?;
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
        self.wait_until_up(&prepared.device)?;
        Ok(prepared)
    }

    /// Waits until the end that was started first takes packets. That the other end is there now is told
    /// to it by and by, and what is sent before is lost: the answer to a container's first question.
    /// Kernels since 6.9 settle that when they are asked.
    fn wait_until_up(&self, device: &str) -> Result<(), Refused> {
        let mut request = Batch::default();
        message::get_link(&mut request, device);
        for _ in 0..MAX_WAITS {
            if message::is_up(&self.route.get(&request)?) {
                break;
            }
            thread::sleep(WAIT);
        }
        Ok(())
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
        let given_up =
            |device: &String| self.given_up.contains(device) || self.due.contains(device);
        let found = self.own_devices()?.into_iter().filter_map(|(device, alias)| {
            let (owner, addresses) = alias::read(&alias?)?;
            if given_up(&device) {
                return None;
            }
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

    /// Gives a device up: it is no longer listed, and the rules that are applied next no longer know it.
    /// The kernel removes it when the last process and descriptor of its namespace is gone, which is usual
    /// by then and costs nobody's time. What is still there when rules have been applied twice is removed
    /// (about 30 ms, however many there are): something holds the namespace. One that is gone, or unknown,
    /// is no error.
    pub fn detach(&mut self, device: &str) {
        self.given_up.insert(device.to_owned());
    }

    /// Removes what was given up before the last rules and is still there.
    pub(super) fn sweep(&mut self) -> Result<(), Refused> {
        let due = core::mem::replace(&mut self.due, core::mem::take(&mut self.given_up));
        if due.is_empty() {
            return Ok(());
        }
        let there = self.own_devices()?.into_iter().map(|(device, _)| device);
        self.remove_devices(&there.filter(|device| due.contains(device)).collect())
    }

    /// Removes devices all at once, and with them the containers' ends and the ways to them.
    pub(super) fn remove_devices(&self, devices: &BTreeSet<String>) -> Result<(), Refused> {
        if devices.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for device in devices {
            message::add_to_group(&mut batch, device, self.tag.number());
        }
        message::delete_group(&mut batch, self.tag.number());
        let is_gone = |refused: &Refused| refused.code() == Some(Errno::NODEV);
        let refused = self.route.attempt_all(&batch)?;
        refused.into_iter().find(|refused| !is_gone(refused)).map_or(Ok(()), Err)
    }
}
