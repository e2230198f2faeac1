//! A cable between two namespaces: what joins a node with the outside.

use core::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use limpet_network::namespace::Namespace;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

/// What each end of a cable is called in its namespace.
pub(crate) const CABLE: &str = "uplink";

/// Makes one change from the namespace that the thread is in.
fn request(message: RouteNetlinkMessage) {
    let flags = NLM_F_ACK | NLM_F_CREATE;
    match answer(message, flags) {
        NetlinkPayload::Error(error) => assert_eq!(error.code, None, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

/// Asks one thing.
fn ask(message: RouteNetlinkMessage, flags: u16) -> RouteNetlinkMessage {
    match answer(message, flags) {
        NetlinkPayload::InnerMessage(message) => message,
        other => panic!("{other:?}"),
    }
}

fn answer(message: RouteNetlinkMessage, flags: u16) -> NetlinkPayload<RouteNetlinkMessage> {
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap().payload
}

fn index(name: &str) -> u32 {
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    rustix::net::netdevice::name_to_index(socket.as_fd(), name).unwrap()
}

/// Joins two namespaces by a cable whose ends have names.
pub(crate) fn join((one, near): (&Namespace, &str), (other, name): (&Namespace, &str)) {
    let far = other.as_fd().as_raw_fd();
    let make = || {
        let mut peer = LinkMessage::default();
        peer.attributes
            .extend([LinkAttribute::IfName(name.to_owned()), LinkAttribute::NetNsFd(far)]);
        let mut link = LinkMessage::default();
        let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
        link.attributes.extend([
            LinkAttribute::IfName(near.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]),
        ]);
        request(RouteNetlinkMessage::NewLink(link));
        start(near);
    };
    one.run(make).unwrap();
    other.run(|| start(name)).unwrap();
    one.run(|| wait_until_up(near)).unwrap();
}

/// Waits until the end that was started first has learnt of the other.
fn wait_until_up(name: &str) {
    let up = LinkAttribute::OperState(netlink_packet_route::link::State::Up);
    for _ in 0..10_000 {
        let mut link = LinkMessage::default();
        link.header.index = index(name);
        if let RouteNetlinkMessage::NewLink(link) = ask(RouteNetlinkMessage::GetLink(link), 0)
            && link.attributes.contains(&up)
        {
            return;
        }
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    panic!("{name} does not come up");
}

/// Starts a device of the namespace that the thread is in.
pub(crate) fn start(name: &str) {
    let mut link = LinkMessage::default();
    link.header.index = index(name);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    request(RouteNetlinkMessage::SetLink(link));
}

/// Sets how long packets of a device of the namespace that the thread is in may be.
pub(crate) fn limit(name: &str, bytes: u32) {
    let mut link = LinkMessage::default();
    link.header.index = index(name);
    link.attributes.push(LinkAttribute::Mtu(bytes));
    request(RouteNetlinkMessage::SetLink(link));
}

/// Gives a device of the namespace that the thread is in an address.
pub(crate) fn address(device: &str, address: IpAddr, prefix: u8) {
    let mut message = AddressMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix;
    message.header.index = index(device);
    let no_detection = netlink_packet_route::address::AddressFlags::Nodad;
    message.attributes.extend([
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(no_detection),
    ]);
    request(RouteNetlinkMessage::NewAddress(message));
}

/// Leads everything else, or one range, over a gateway at the other end.
pub(crate) fn route(range: Option<(IpAddr, u8)>, gateway: IpAddr) {
    let far = |address: IpAddr| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut message = RouteMessage::default();
    message.header.address_family =
        if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    if let Some((address, prefix)) = range {
        message.header.destination_prefix_length = prefix;
        message.attributes.push(RouteAttribute::Destination(far(address)));
    }
    message.attributes.push(RouteAttribute::Gateway(far(gateway)));
    request(RouteNetlinkMessage::NewRoute(message));
}
