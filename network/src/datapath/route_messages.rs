//! The messages about devices, addresses, routes, neighbours and traffic shaping.
//!
//! Each function adds one request to a batch. Layouts and numbers: linux/rtnetlink.h, if_link.h,
//! if_addr.h, neighbour.h, veth.h, pkt_sched.h.

use core::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use limpet_protocol::network::Subnet;

use crate::netlink::{
    ACKNOWLEDGE, Batch, CREATE, DUMP, EXCLUSIVE, REPLACE, REQUEST, attributes, native_u32,
};

/// Types of messages (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const NEW_QUEUE: u16 = 36;

/// `IFF_UP`.
const UP: u32 = 1;
/// Address families.
const INET: u8 = 2;
const INET6: u8 = 10;
/// Routing tables: for other nodes' addresses and for the node's own.
const MAIN_TABLE: u8 = 254;
const LOCAL_TABLE: u8 = 255;
/// How far away what a route leads to is: anywhere, on the link, on the node itself.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
/// Types of routes: to others, to the node itself, to nobody.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const UNREACHABLE: u8 = 7;
/// Do not ask whether a gateway is on the link (`RTNH_F_ONLINK`).
const ON_LINK: u32 = 4;
/// Who made a route: a number that no routing program uses (`/etc/iproute2/rt_protos`), 'l'.
const ROUTE_OWNER: u8 = 108;
/// The neighbour stays without being asked (`NUD_PERMANENT`).
const PERMANENT: u16 = 0x80;
/// No duplicate address detection, no route of its own (`IFA_F_NODAD`, `IFA_F_NOPREFIXROUTE`).
const ADDRESS_FLAGS: u32 = 0x02 | 0x200;
/// Takes no address by itself (`IN6_ADDR_GEN_MODE_NONE`).
const GENERATE_NONE: u8 = 1;

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// A device and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
}

/// The loopback device is the first of every network namespace.
pub(super) const LOOPBACK: Device<'static> = Device { name: "lo", index: 1 };

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { INET } else { INET6 }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct ifinfomsg`: a device by its number, or by its name with number 0.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Makes a pair of devices, the other end in another namespace.
pub(super) fn make_pair(
    batch: &mut Batch,
    (name, mac): (&str, Mac),
    (peer, namespace): (&str, BorrowedFd<'_>),
) {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const INFO: u16 = 18;
    const NAMESPACE: u16 = 28;
    let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let attempt = format!("make device {name}");
    batch.add(attempt, (NEW_LINK, flags), &link_header(0, 0), |link| {
        link.text(NAME, name).bytes(ADDRESS, &mac);
        link.nested(INFO, |info| {
            info.text(1, "veth").nested(2, |data| {
                data.nested(1, |end| {
                    end.header(&link_header(0, 0));
                    end.text(NAME, peer);
                    end.native(NAMESPACE, namespace.as_raw_fd().cast_unsigned());
                });
            });
        });
    });
}

/// Asks for a pair of devices that cannot be: the kernel names another reason when it has no veth.
pub(super) fn make_impossible_pair(batch: &mut Batch, name: &str) {
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const INFO: u16 = 18;
    let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
    batch.add("ask for veth", (NEW_LINK, flags), &link_header(0, 0), |link| {
        link.text(NAME, name).native(MTU, 1).nested(INFO, |info| {
            info.text(1, "veth");
        });
    });
}

/// Keeps a device from taking an IPv6 address by itself.
pub(super) fn generate_no_address(batch: &mut Batch, name: &str) {
    let attempt = format!("keep {name} from taking an address");
    batch.add(attempt, (SET_LINK, REQUEST | ACKNOWLEDGE), &link_header(0, 0), |link| {
        link.text(3, name).nested(26, |families| {
            families.nested(u16::from(INET6), |six| {
                six.bytes(8, &[GENERATE_NONE]);
            });
        });
    });
}

/// Starts a device.
pub(super) fn start(batch: &mut Batch, name: &str) {
    let attempt = format!("start device {name}");
    batch.add(attempt, (SET_LINK, REQUEST | ACKNOWLEDGE), &link_header(0, UP), |link| {
        link.text(3, name);
    });
}

/// Writes on a device what people and the next agent read: its alias.
pub(super) fn label(batch: &mut Batch, device: Device<'_>, alias: &str) {
    let attempt = format!("label device {}", device.name);
    let kind = (SET_LINK, REQUEST | ACKNOWLEDGE);
    batch.add(attempt, kind, &link_header(device.index, 0), |link| {
        link.bytes(20, alias.as_bytes());
    });
}

/// Gives a device its hardware address.
pub(super) fn set_mac(batch: &mut Batch, device: Device<'_>, mac: Mac) {
    let attempt = format!("set the hardware address of {}", device.name);
    let kind = (SET_LINK, REQUEST | ACKNOWLEDGE);
    batch.add(attempt, kind, &link_header(device.index, 0), |link| {
        link.bytes(1, &mac);
    });
}

/// Puts a device into a group.
pub(super) fn add_to_group(batch: &mut Batch, name: &str, group: u32) {
    let attempt = format!("put device {name} into a group");
    batch.add(attempt, (SET_LINK, REQUEST | ACKNOWLEDGE), &link_header(0, 0), |link| {
        link.text(3, name).native(27, group);
    });
}

/// Removes all devices of a group and with them the other ends of the pairs. The kernel waits once for
/// all of them.
pub(super) fn delete_group(batch: &mut Batch, group: u32) {
    let kind = (DELETE_LINK, REQUEST | ACKNOWLEDGE);
    batch.add("remove devices", kind, &link_header(0, 0), |link| {
        link.native(27, group);
    });
}

/// Asks for a device.
pub(super) fn get_link(batch: &mut Batch, name: &str) {
    batch.add(format!("ask for device {name}"), (GET_LINK, REQUEST), &link_header(0, 0), |link| {
        link.text(3, name);
    });
}

/// Whether a device that was asked for takes packets (`IFLA_OPERSTATE` is `IF_OPER_UP`, RFC 2863).
pub(super) fn is_up(body: &[u8]) -> bool {
    let attributes_of = body.get(16..).unwrap_or_default();
    attributes(attributes_of).any(|a| a.kind == 16 && a.value == [6])
}

/// Lists all devices.
pub(super) fn list_links(batch: &mut Batch) {
    batch.add("list devices", (GET_LINK, REQUEST | DUMP), &link_header(0, 0), |_| {});
}

/// `struct ifaddrmsg`.
fn address_header(family: u8, prefix: u8, index: u32) -> [u8; 8] {
    let mut header = [family, prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Gives a device an address without neighbours. The mark tells whose it is; 0 is none.
pub(super) fn add_address(batch: &mut Batch, device: Device<'_>, address: IpAddr, mark: u32) {
    let attempt = format!("give {} address {address}", device.name);
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    let header = address_header(family(address), width(address), device.index);
    batch.add(attempt, (NEW_ADDRESS, flags), &header, |message| {
        let octets = octets(address);
        message.bytes(1, &octets).bytes(2, &octets).native(8, ADDRESS_FLAGS);
        if mark != 0 {
            message.native(9, mark);
        }
    });
}

/// Takes an address from a device.
pub(super) fn delete_address(batch: &mut Batch, device: Device<'_>, address: IpAddr) {
    let attempt = format!("take address {address} from {}", device.name);
    let header = address_header(family(address), width(address), device.index);
    batch.add(attempt, (DELETE_ADDRESS, REQUEST | ACKNOWLEDGE), &header, |message| {
        let octets = octets(address);
        message.bytes(1, &octets).bytes(2, &octets);
    });
}

/// Lists all addresses.
pub(super) fn list_addresses(batch: &mut Batch) {
    let header = address_header(0, 0, 0);
    batch.add("list addresses", (GET_ADDRESS, REQUEST | DUMP), &header, |_| {});
}

/// Where a route is kept and what kind it is.
#[derive(Debug, Clone, Copy)]
struct RouteKind {
    table: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

/// To a container.
const TO_DEVICE: RouteKind =
    RouteKind { table: MAIN_TABLE, scope: SCOPE_LINK, kind: UNICAST, flags: 0 };
/// To the node itself, whichever of the addresses.
const TO_NODE: RouteKind =
    RouteKind { table: LOCAL_TABLE, scope: SCOPE_HOST, kind: LOCAL, flags: 0 };
/// To everywhere else.
const TO_GATEWAY: RouteKind =
    RouteKind { table: MAIN_TABLE, scope: SCOPE_UNIVERSE, kind: UNICAST, flags: ON_LINK };

/// `struct rtmsg`. IPv6 has no scopes.
fn route_header(family: u8, prefix: u8, route: RouteKind) -> [u8; 12] {
    let RouteKind { table, scope, kind, flags } = route;
    let scope = if family == INET { scope } else { SCOPE_UNIVERSE };
    let mut header = [family, prefix, 0, 0, table, ROUTE_OWNER, scope, kind, 0, 0, 0, 0];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Leads an address to a device. Connections of the node's own have that source address there.
pub(super) fn add_route(batch: &mut Batch, device: Device<'_>, address: IpAddr, source: IpAddr) {
    let attempt = format!("lead {address} to {}", device.name);
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    let header = route_header(family(address), width(address), TO_DEVICE);
    batch.add(attempt, (NEW_ROUTE, flags), &header, |route| {
        route.bytes(1, &octets(address)).native(4, device.index).bytes(7, &octets(source));
    });
}

/// To nobody: whatever no other route leads anywhere is refused.
const TO_NOBODY: RouteKind =
    RouteKind { table: MAIN_TABLE, scope: SCOPE_UNIVERSE, kind: UNREACHABLE, flags: 0 };

/// A range that is led somewhere without a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) addresses: Subnet,
    /// All its addresses are the node's own; otherwise they are nobody's.
    pub(super) own: bool,
}

impl Range {
    fn header(self) -> [u8; 12] {
        let kind = if self.own { TO_NODE } else { TO_NOBODY };
        route_header(family(self.addresses.address()), self.addresses.prefix(), kind)
    }
}

/// Leads a range to the node itself, whose connections there have that source address, or to nobody.
/// The mark is the metric: it tells whose doing that is, and any other route comes first.
pub(super) fn add_range(batch: &mut Batch, range: Range, source: IpAddr, mark: u32) {
    let attempt =
        format!("lead {} to {}", range.addresses, if range.own { "the node" } else { "nobody" });
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    batch.add(attempt, (NEW_ROUTE, flags), &range.header(), |route| {
        route.bytes(1, &octets(range.addresses.address())).native(6, mark);
        if range.own {
            route.native(4, LOOPBACK.index).bytes(7, &octets(source));
        }
    });
}

/// No longer.
pub(super) fn delete_range(batch: &mut Batch, range: Range, mark: u32) {
    let attempt = format!("no longer lead {} anywhere", range.addresses);
    batch.add(attempt, (DELETE_ROUTE, REQUEST | ACKNOWLEDGE), &range.header(), |route| {
        route.bytes(1, &octets(range.addresses.address())).native(6, mark);
    });
}

/// Lists all routes.
pub(super) fn list_routes(batch: &mut Batch) {
    let header = [0; 12];
    batch.add("list routes", (GET_ROUTE, REQUEST | DUMP), &header, |_| {});
}

/// The range of a listed route that has that mark.
pub(super) fn marked_range(body: &[u8], mark: u32) -> Option<Range> {
    let (header, rest) = body.split_at_checked(12)?;
    let value = |kind| attributes(rest).find(|a| a.kind == kind).map(|a| a.value);
    let is_ours = header[5] == ROUTE_OWNER && [LOCAL, UNREACHABLE].contains(&header[7]);
    let marked = value(6).and_then(|value| native_u32(value, 0)) == Some(mark);
    let addresses = Subnet::new(address(value(1)?)?, header[1]).ok()?;
    (is_ours && marked).then_some(Range { addresses, own: header[7] == LOCAL })
}

/// The address of a listed address that has that mark.
pub(super) fn own_address(body: &[u8], mark: u32) -> Option<IpAddr> {
    let (_, rest) = body.split_at_checked(8)?;
    let value = |kind| attributes(rest).find(|a| a.kind == kind).map(|a| a.value);
    let marked = value(9).and_then(|value| native_u32(value, 0)) == Some(mark);
    address(value(1)?).filter(|_| marked)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

/// Leads everything else over a gateway that no subnet of the device has.
pub(super) fn add_default_route(batch: &mut Batch, device: Device<'_>, gateway: IpAddr) {
    let attempt = format!("lead everything over {gateway}");
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    let header = route_header(family(gateway), 0, TO_GATEWAY);
    batch.add(attempt, (NEW_ROUTE, flags), &header, |route| {
        route.bytes(5, &octets(gateway)).native(4, device.index);
    });
}

/// Says for good which hardware address an address has.
pub(super) fn add_neighbour(batch: &mut Batch, device: Device<'_>, address: IpAddr, mac: Mac) {
    let attempt = format!("introduce {address} on {}", device.name);
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    let mut header = [0; 12];
    header[0] = family(address);
    header[4..8].copy_from_slice(&device.index.to_ne_bytes());
    header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    batch.add(attempt, (NEW_NEIGHBOUR, flags), &header, |neighbour| {
        neighbour.bytes(1, &octets(address)).bytes(2, &mac);
    });
}

/// Limits what leaves by a device with a token bucket (tc-tbf(8)).
pub(super) fn limit_rate(batch: &mut Batch, device: Device<'_>, bytes_per_second: u64) {
    /// Without a table of times per size, which kernels since 3.8 do not need (`TC_LINKLAYER_ETHERNET`).
    const ETHERNET: u8 = 1;
    /// Less than one large packet would never pass.
    const MIN_BURST: u64 = 32 * 1024;
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    // What passes at once: a fiftieth of a second. What waits: a tenth, so that a limit is no delay.
    let burst = small((bytes_per_second / 50).max(MIN_BURST));
    let limit = burst.saturating_add(small((bytes_per_second / 10).max(2 * MIN_BURST)));
    let attempt = format!("limit {} to {bytes_per_second} bytes a second", device.name);
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&device.index.to_ne_bytes());
    header[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
    let mut parameters = [0; 36];
    parameters[1] = ETHERNET;
    parameters[8..12].copy_from_slice(&small(bytes_per_second).to_ne_bytes());
    parameters[24..28].copy_from_slice(&limit.to_ne_bytes());
    batch.add(attempt, (NEW_QUEUE, flags), &header, |queue| {
        queue.text(1, "tbf").nested(2, |options| {
            options.bytes(1, &parameters).native(6, burst);
            if bytes_per_second > u64::from(u32::MAX) {
                options.bytes(4, &bytes_per_second.to_ne_bytes());
            }
        });
    });
}

/// Asks for a token bucket without saying of what size: the kernel names another reason when it has
/// none.
pub(super) fn limit_nothing(batch: &mut Batch) {
    let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&LOOPBACK.index.to_ne_bytes());
    header[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
    batch.add("ask for a token bucket", (NEW_QUEUE, flags), &header, |queue| {
        queue.text(1, "tbf");
    });
}
