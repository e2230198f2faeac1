//! From the network to the device.

use std::net::SocketAddr;
use std::sync::Arc;

use defguard_boringtun::noise::handshake::parse_handshake_anon;
use defguard_boringtun::noise::{Packet, Tunn, TunnResult};
use rustix::event::{PollFd, PollFlags, poll};

use super::datagrams::{Inbox, Outbox};
use super::peer::Peer;
use super::{SCRATCH_BYTES, Shared, Table};
use crate::tunnel::PublicKey;

/// Longest answer to an initiation that is not looked at (WireGuard's paper, section 5.4.7).
const COOKIE_BYTES: usize = 64;

/// Runs until it is over.
pub(super) fn run(shared: &Shared) {
    let mut out = Outbox::new(&shared.sockets);
    let mut inbox = Inbox::new();
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        let mut ready = vec![PollFd::new(&shared.over, PollFlags::IN)];
        ready.extend(shared.sockets.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll(&mut ready, None).ok();
        if !ready[0].revents().is_empty() {
            return;
        }
        let table = shared.table();
        inbox.take(&shared.sockets, |from, datagram| {
            accept(shared, &table, (from, datagram), &mut scratch, &mut out);
        });
        out.flush();
    }
}

/// Takes one packet. What is for the device goes there if the peer may send from that address.
fn accept(
    shared: &Shared,
    table: &Table,
    (from, datagram): (SocketAddr, &[u8]),
    scratch: &mut [u8],
    out: &mut Outbox<'_>,
) {
    let Some(peer) = sender(shared, table, (from, datagram), out) else { return };
    let Some((length, source)) = peer.lock().receive(from, datagram, scratch, out) else { return };
    let owner = table.allowed.owner(source);
    if owner.is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
        shared.tun.write(&scratch[..length]);
    }
}

/// Who says that it sent a packet. Whether that is true is found out next.
fn sender<'t>(
    shared: &Shared,
    table: &'t Table,
    (from, datagram): (SocketAddr, &[u8]),
    out: &mut Outbox<'_>,
) -> Option<&'t Arc<Peer>> {
    let index = match Tunn::parse_incoming_packet(datagram).ok()? {
        Packet::PacketData(packet) => packet.receiver_idx,
        Packet::HandshakeResponse(packet) => packet.receiver_idx,
        Packet::PacketCookieReply(packet) => packet.receiver_idx,
        Packet::HandshakeInit(initiation) => {
            // Cheap things first: finding out who it is costs two operations on the curve.
            let mut cookie = [0; COOKIE_BYTES];
            match shared.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
                Ok(_) => {}
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    out.push(from, cookie);
                    return None;
                }
                Err(_) => return None,
            }
            let own = shared.key.secret();
            let half = parse_handshake_anon(&own, &shared.public, &initiation).ok()?;
            return table.by_key.get(&PublicKey(half.peer_static_public));
        }
    };
    table.by_index.get(&(index >> 8))
}
