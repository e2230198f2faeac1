//! What all containers stand on: the gateway address, the way to virtual addresses, forwarding.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::route_messages::{self as message, LOOPBACK, Range};
use super::{Datapath, DatapathError, Gateway};
use crate::netlink::{Batch, Refused};
use crate::rules::SoleForwarder;
use crate::sysctl::{self, SettingError};

/// Settings that let packets pass from one device to another.
const FORWARD_V4: &str = "ipv4/ip_forward";
const FORWARD_V6: &str = "ipv6/conf/all/forwarding";

impl Datapath {
    /// Gives the node its gateway address and finds out whether anybody forwarded packets before; the
    /// first rules turn that on. An address from before is taken away.
    ///
    /// # Errors
    /// The kernel refused something.
    pub fn set_gateway(&mut self, gateway: &Gateway) -> Result<SoleForwarder, DatapathError> {
        let v6 = gateway.addresses.v6.filter(|_| self.ipv6);
        let addresses = [Some(IpAddr::V4(gateway.addresses.v4)), v6.map(IpAddr::V6)];
        let addresses: BTreeSet<_> = addresses.into_iter().flatten().collect();
        let ranges = wanted_ranges(gateway, &addresses);
        let mark = self.tag.number();
        let mut batch = Batch::default();
        message::start(&mut batch, LOOPBACK.name);
        for range in self.marked_ranges()?.iter().filter(|range| !ranges.contains_key(range)) {
            message::delete_range(&mut batch, *range, mark);
        }
        for address in self.own_addresses()?.difference(&addresses) {
            message::delete_address(&mut batch, LOOPBACK, *address);
        }
        for address in &addresses {
            message::add_address(&mut batch, LOOPBACK, *address, mark);
        }
        for (range, source) in &ranges {
            message::add_range(&mut batch, *range, *source, mark);
        }
        self.route.perform(&batch)?;
        self.forwards_v6 = v6.is_some();
        let was_off = |name| sysctl::get(name).is_some_and(|value| value == "0");
        let marked = self.sole_forwarder_before()?;
        Ok(SoleForwarder {
            v4: marked.v4 || was_off(FORWARD_V4),
            v6: self.forwards_v6 && (marked.v6 || was_off(FORWARD_V6)),
        })
    }

    /// Lets the node forward packets. Rules must be there: without them everything would pass.
    pub(super) fn start_forwarding(&self) -> Result<(), SettingError> {
        sysctl::set(FORWARD_V4, "1")?;
        // A published port at 127.0.0.1 may lead to another node. What comes from there and is for
        // 127.0.0.1 without being an answer, the rules drop.
        let tunnel = self.tag.tunnel_device();
        sysctl::set_if_there(&format!("ipv4/conf/{tunnel}/route_localnet"), "1")?;
        if !self.forwards_v6 || sysctl::get(FORWARD_V6).as_deref() == Some("1") {
            return Ok(());
        }
        // A node that forwards IPv6 no longer listens to routers, and would lose its own way out, unless
        // it is told to do both (Documentation/networking/ip-sysctl of the kernel, accept_ra).
        for device in sysctl::devices("ipv6") {
            let name = format!("ipv6/conf/{device}/accept_ra");
            if sysctl::get(&name).as_deref() == Some("1") {
                sysctl::set_if_there(&name, "2")?;
            }
        }
        sysctl::set(FORWARD_V6, "1")
    }

    /// Stops forwarding where nobody but this agent wanted it.
    pub(super) fn stop_forwarding(&self, sole: SoleForwarder) -> Result<(), SettingError> {
        if sole.v4 {
            sysctl::set(FORWARD_V4, "0")?;
        }
        if sole.v6 {
            sysctl::set_if_there(FORWARD_V6, "0")?;
        }
        Ok(())
    }

    /// Takes all marked addresses and routes away.
    pub(super) fn remove_gateway(&self) -> Result<(), Refused> {
        let mut batch = Batch::default();
        for range in self.marked_ranges()? {
            message::delete_range(&mut batch, range, self.tag.number());
        }
        for address in self.own_addresses()? {
            message::delete_address(&mut batch, LOOPBACK, address);
        }
        if batch.len() == 0 { Ok(()) } else { self.route.perform(&batch) }
    }

    /// The addresses of the loopback device with the mark of this tag.
    fn own_addresses(&self) -> Result<BTreeSet<IpAddr>, Refused> {
        let mut request = Batch::default();
        message::list_addresses(&mut request);
        let found = self.route.list(&request)?;
        Ok(found.iter().filter_map(|body| message::own_address(body, self.tag.number())).collect())
    }

    /// The ranges that are led somewhere with the mark of this tag.
    fn marked_ranges(&self) -> Result<BTreeSet<Range>, Refused> {
        let mut request = Batch::default();
        message::list_routes(&mut request);
        let found = self.route.list(&request)?;
        Ok(found.iter().filter_map(|body| message::marked_range(body, self.tag.number())).collect())
    }
}

/// Virtual addresses are the node's own. Addresses of the fleet that nobody is known to have are
/// nobody's: packets for them, such as those to an instance that has just gone, must not leave the node
/// by its way out.
fn wanted_ranges(gateway: &Gateway, addresses: &BTreeSet<IpAddr>) -> BTreeMap<Range, IpAddr> {
    let own = |addresses| Range { addresses, own: true };
    let nobody = |addresses| Range { addresses, own: false };
    let ranges = [
        own(gateway.virtual_addresses),
        own(gateway.virtual_addresses6),
        nobody(gateway.pool),
        nobody(gateway.pool6),
        nobody(gateway.subnet),
        nobody(gateway.subnet6),
    ];
    let source = |range: &Range| {
        addresses.iter().find(|a| a.is_ipv4() == range.addresses.address().is_ipv4()).copied()
    };
    ranges.into_iter().filter_map(|range| Some((range, source(&range)?))).collect()
}
