//! The messages of the family `wireguard` (linux/wireguard.h) and of the one that knows its number
//! (linux/genetlink.h).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use limpet_protocol::network::Subnet;

use crate::netlink::{ACKNOWLEDGE, Attribute, Batch, DUMP, REQUEST, attributes};
use crate::tunnel::device::{ipv4_or_6, octets};
use crate::tunnel::{KEY_BYTES, PeerStatus, PublicKey, TunnelPeer};

/// The family that knows the others (`GENL_ID_CTRL`), its command and attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands (`WG_CMD_*`); both families have version 1.
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;

/// Attributes of a device (`WGDEVICE_A_*`).
const DEVICE_NAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;

/// Attributes of a peer (`WGPEER_A_*`).
const PEER_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_RECEIVED: u16 = 7;
const PEER_SENT: u16 = 8;
const PEER_ALLOWED: u16 = 9;

/// Flags of a peer (`WGPEER_F_*`).
const REMOVE: u32 = 1;
const REPLACE_ALLOWED: u32 = 2;
const UPDATE_ONLY: u32 = 4;

/// Attributes of a subnet (`WGALLOWEDIP_A_*`).
const SUBNET_FAMILY: u16 = 1;
const SUBNET_ADDRESS: u16 = 2;
const SUBNET_PREFIX: u16 = 3;

/// Address families (`AF_INET`, `AF_INET6`).
const INET: u16 = 2;
const INET6: u16 = 10;

/// A family's number and a device's name.
pub(super) type Address<'a> = (u16, &'a str);

/// A peer, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelPeer {
    pub(super) key: PublicKey,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) keepalive_seconds: u16,
    /// When the last handshake was, since 1970; zero is never.
    pub(super) last_handshake: Duration,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) allowed: BTreeSet<Subnet>,
}

impl KernelPeer {
    fn new(key: PublicKey) -> Self {
        Self {
            key,
            endpoint: None,
            keepalive_seconds: 0,
            last_handshake: Duration::ZERO,
            received: 0,
            sent: 0,
            allowed: BTreeSet::new(),
        }
    }

    /// How long ago the last handshake was, if there was one. A clock that was set makes it 0 at worst.
    pub(super) fn age(&self, now: Duration) -> Option<Duration> {
        (!self.last_handshake.is_zero()).then(|| now.saturating_sub(self.last_handshake))
    }

    pub(super) fn status(&self, now: Duration) -> PeerStatus {
        PeerStatus {
            key: self.key,
            last_handshake: self.age(now),
            endpoint: self.endpoint,
            received: self.received,
            sent: self.sent,
        }
    }
}

/// `struct genlmsghdr`.
const fn header(command: u8) -> [u8; 4] {
    [command, VERSION, 0, 0]
}

/// Asks for the number of the family.
pub(super) fn get_family(batch: &mut Batch) {
    let kind = (CONTROL, REQUEST);
    batch.add("ask for the kernel's WireGuard", kind, &header(GET_FAMILY), |family| {
        family.text(FAMILY_NAME, "wireguard");
    });
}

/// The number in the answer.
pub(super) fn family(body: &[u8]) -> Option<u16> {
    let found = attributes(body.get(4..)?).find(|attribute| attribute.kind == FAMILY_ID)?;
    number16(found)
}

/// Gives the device its key and port.
pub(super) fn set_device(
    batch: &mut Batch,
    family: u16,
    device: &str,
    (key, port): (&[u8; KEY_BYTES], u16),
) {
    let kind = (family, REQUEST | ACKNOWLEDGE);
    batch.add(format!("give {device} its key and port {port}"), kind, &header(SET_DEVICE), |d| {
        d.text(DEVICE_NAME, device).bytes(DEVICE_PRIVATE_KEY, key);
        d.bytes(DEVICE_PORT, &port.to_ne_bytes());
    });
}

/// Lists the peers.
pub(super) fn get_device(batch: &mut Batch, family: u16, device: &str) {
    let kind = (family, REQUEST | DUMP);
    batch.add(format!("list the peers of {device}"), kind, &header(GET_DEVICE), |request| {
        request.text(DEVICE_NAME, device);
    });
}

/// Makes the peers of the device those that are wanted; what is as it should be is not touched. Each peer has
/// a message of its own, so that none grows too long.
pub(super) fn set_peers(
    batch: &mut Batch,
    address: Address<'_>,
    wanted: &[TunnelPeer],
    now: &HashMap<PublicKey, KernelPeer>,
) {
    for key in now.keys().filter(|key| !wanted.iter().any(|peer| peer.key == **key)) {
        change(batch, address, ("remove", *key, REMOVE), |_| {});
    }
    for peer in wanted {
        let is = now.get(&peer.key);
        let keepalive = keepalive_seconds(peer);
        let allowed: BTreeSet<Subnet> = peer.allowed.iter().copied().collect();
        if is.is_some_and(|is| is.keepalive_seconds == keepalive && is.allowed == allowed) {
            continue;
        }
        change(batch, address, ("set", peer.key, REPLACE_ALLOWED), |attributes| {
            attributes.bytes(PEER_KEEPALIVE, &keepalive.to_ne_bytes());
            attributes.nested(PEER_ALLOWED, |list| {
                for subnet in &allowed {
                    list.nested(0, |entry| write_subnet(entry, *subnet));
                }
            });
        });
    }
}

/// Says where a peer is.
pub(super) fn set_endpoint(
    batch: &mut Batch,
    address: Address<'_>,
    key: PublicKey,
    endpoint: SocketAddr,
) {
    change(batch, address, ("seek", key, UPDATE_ONLY), |attributes| {
        attributes.bytes(PEER_ENDPOINT, &socket_address(endpoint));
    });
}

fn change(
    batch: &mut Batch,
    (family, device): Address<'_>,
    (word, key, flags): (&str, PublicKey, u32),
    fill: impl FnOnce(&mut crate::netlink::Attributes<'_>),
) {
    let [a, b, c, d, ..] = key.0;
    let attempt = format!("{word} peer {a:02x}{b:02x}{c:02x}{d:02x}… of {device}");
    batch.add(attempt, (family, REQUEST | ACKNOWLEDGE), &header(SET_DEVICE), |message| {
        message.text(DEVICE_NAME, device).nested(DEVICE_PEERS, |peers| {
            peers.nested(0, |peer| {
                peer.bytes(PEER_KEY, &key.0).native(PEER_FLAGS, flags);
                fill(peer);
            });
        });
    });
}

fn keepalive_seconds(peer: &TunnelPeer) -> u16 {
    peer.keepalive.map_or(0, |every| u16::try_from(every.as_secs()).unwrap_or(u16::MAX))
}

fn write_subnet(entry: &mut crate::netlink::Attributes<'_>, subnet: Subnet) {
    let family = if subnet.address().is_ipv4() { INET } else { INET6 };
    entry.bytes(SUBNET_FAMILY, &family.to_ne_bytes());
    entry.bytes(SUBNET_ADDRESS, &octets(subnet.address()));
    entry.bytes(SUBNET_PREFIX, &[subnet.prefix()]);
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => {
            let octets = address.ip().octets();
            [&INET.to_ne_bytes()[..], &port, &octets, &[0; 8]].concat()
        }
        SocketAddr::V6(address) => [
            &INET6.to_ne_bytes()[..],
            &port,
            &address.flowinfo().to_be_bytes(),
            &address.ip().octets(),
            &address.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

/// The peers in the parts of a list. One with many subnets goes on in the next part.
pub(super) fn peers<'a>(parts: impl Iterator<Item = &'a [u8]>) -> HashMap<PublicKey, KernelPeer> {
    let mut found: HashMap<PublicKey, KernelPeer> = HashMap::new();
    for part in parts {
        let device = attributes(part.get(4..).unwrap_or_default());
        for peer in device.filter(|a| a.kind == DEVICE_PEERS).flat_map(|a| attributes(a.value)) {
            let key = attributes(peer.value).find(|a| a.kind == PEER_KEY);
            let Some(key) = key.and_then(|a| PublicKey::try_from(a.value).ok()) else { continue };
            let entry = found.entry(key).or_insert_with(|| KernelPeer::new(key));
            attributes(peer.value).for_each(|attribute| read(entry, attribute));
        }
    }
    found
}

fn read(peer: &mut KernelPeer, attribute: Attribute<'_>) {
    match attribute.kind {
        PEER_ENDPOINT => peer.endpoint = endpoint(attribute.value),
        PEER_KEEPALIVE => peer.keepalive_seconds = number16(attribute).unwrap_or(0),
        PEER_LAST_HANDSHAKE => {
            let half = |at| number64(attribute.value, at).unwrap_or(0);
            let nanos = u32::try_from(half(8)).unwrap_or(0);
            peer.last_handshake = Duration::new(half(0), nanos % 1_000_000_000);
        }
        PEER_RECEIVED => peer.received = number64(attribute.value, 0).unwrap_or(0),
        PEER_SENT => peer.sent = number64(attribute.value, 0).unwrap_or(0),
        PEER_ALLOWED => peer.allowed.extend(attributes(attribute.value).filter_map(subnet)),
        _ => {}
    }
}

fn subnet(entry: Attribute<'_>) -> Option<Subnet> {
    let value = |kind| attributes(entry.value).find(|a| a.kind == kind).map(|a| a.value);
    Subnet::new(ipv4_or_6(value(SUBNET_ADDRESS)?)?, *value(SUBNET_PREFIX)?.first()?).ok()
}

fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let address: IpAddr = match family {
        INET => ipv4_or_6(bytes.get(4..8)?)?,
        INET6 => ipv4_or_6(bytes.get(8..24)?)?,
        _ => return None,
    };
    Some((address, port).into())
}

fn number16(attribute: Attribute<'_>) -> Option<u16> {
    Some(u16::from_ne_bytes(attribute.value.get(..2)?.try_into().ok()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
