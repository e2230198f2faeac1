//! One peer: its sessions, and where it is.
//!
//! In: packets for it and from it, and the time. Out: packets, into the outbox or for the device. The
//! protocol itself (handshakes, keys, counters) is the library's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use defguard_boringtun::noise::{Tunn, TunnResult};
use defguard_boringtun::x25519;

use super::datagrams::Outbox;
use super::now;
use crate::tunnel::{PeerStatus, PrivateKey, PublicKey, TunnelPeer};

/// A packet's first byte: its type (WireGuard's paper, section 5.4).
const HANDSHAKE_INITIATION: u8 = 1;
const COOKIE_REPLY: u8 = 3;

/// One peer, for both threads.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    /// The upper 24 bits of the indices of its sessions.
    pub(super) index: u32,
    state: Mutex<PeerState>,
}

/// What changes.
pub(super) struct PeerState {
    tunnel: Tunn,
    /// Where it may be.
    candidates: Vec<SocketAddr>,
    /// Where it was last heard from.
    heard_from: Option<SocketAddr>,
    /// Initiations since it was last heard.
    unanswered: u32,
    keepalive: Option<Duration>,
    last_sent: Instant,
    received: u64,
    sent: u64,
}

impl std::fmt::Debug for PeerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerState").field("heard_from", &self.heard_from).finish_non_exhaustive()
    }
}

impl Peer {
    pub(super) fn new(own: &PrivateKey, peer: &TunnelPeer, index: u32) -> Self {
        let public = x25519::PublicKey::from(peer.key.0);
        let state = PeerState {
            tunnel: Tunn::new(own.secret(), public, None, None, index, None),
            candidates: peer.endpoints.clone(),
            heard_from: None,
            unanswered: 0,
            keepalive: peer.keepalive,
            last_sent: now(),
            received: 0,
            sent: 0,
        };
        Self { key: peer.key, index, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> PeerStatus {
        let state = self.lock();
        PeerStatus {
            key: self.key,
            last_handshake: state.tunnel.time_since_last_handshake(),
            endpoint: state.heard_from.or_else(|| state.candidates.first().copied()),
            received: state.received,
            sent: state.sent,
        }
    }
}

impl PeerState {
    /// Takes what may have changed; sessions go on. A peer that is being sought is sought anew at once if
    /// it may be elsewhere.
    pub(super) fn update(&mut self, peer: &TunnelPeer, scratch: &mut [u8], out: &mut Outbox<'_>) {
        self.keepalive = peer.keepalive;
        if self.candidates == peer.endpoints {
            return;
        }
        self.candidates.clone_from(&peer.endpoints);
        if self.unanswered > 0
            && let TunnResult::WriteToNetwork(message) =
                self.tunnel.format_handshake_initiation(scratch, true)
        {
            self.send(message, out);
        }
    }

    /// Encrypts a packet and sends it, or begins a handshake and keeps it until that is done.
    pub(super) fn encapsulate(&mut self, packet: &[u8], scratch: &mut [u8], out: &mut Outbox<'_>) {
        if let TunnResult::WriteToNetwork(message) = self.tunnel.encapsulate(packet, scratch) {
            self.send(message, out);
        }
    }

    /// Takes a packet from the network. If there is one for the device in it, that is at the beginning of
    /// `scratch`: its length, and which address it says that it is from.
    pub(super) fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        scratch: &mut [u8],
        out: &mut Outbox<'_>,
    ) -> Option<(usize, IpAddr)> {
        match self.tunnel.decapsulate(Some(from.ip()), datagram, scratch) {
            TunnResult::Err(_) => None,
            TunnResult::WriteToTunnelV4(packet, source) => {
                let length = packet.len();
                self.heard(from, datagram);
                Some((length, source.into()))
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                let length = packet.len();
                self.heard(from, datagram);
                Some((length, source.into()))
            }
            TunnResult::Done => {
                self.heard(from, datagram);
                None
            }
            TunnResult::WriteToNetwork(message) if message.first() == Some(&COOKIE_REPLY) => {
                // Whoever it is has to prove first that it is there.
                out.push(from, message);
                None
            }
            TunnResult::WriteToNetwork(message) => {
                self.heard(from, datagram);
                self.send(message, out);
                while let TunnResult::WriteToNetwork(message) =
                    self.tunnel.decapsulate(None, &[], scratch)
                {
                    self.send(message, out);
                }
                None
            }
        }
    }

    /// What is due: handshakes, keys that are too old, signs of life.
    pub(super) fn tick(&mut self, now: Instant, scratch: &mut [u8], out: &mut Outbox<'_>) {
        if let TunnResult::WriteToNetwork(message) = self.tunnel.update_timers(scratch) {
            self.send(message, out);
        }
        if self.keepalive.is_some_and(|every| now.duration_since(self.last_sent) >= every) {
            self.last_sent = now;
            self.encapsulate(&[], scratch, out);
        }
    }

    /// The packet was the peer's: where it came from is where the peer is. A cookie proves nothing.
    fn heard(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.received += u64::try_from(datagram.len()).unwrap_or(0);
        if datagram.first() != Some(&COOKIE_REPLY) {
            self.heard_from = Some(from);
            self.unanswered = 0;
        }
    }

    /// Sends to where the peer was last heard. When it does not answer an initiation there, or was never
    /// heard, the next goes to all places where it may be: it answers the first that arrives, and takes
    /// the others for repetitions.
    fn send(&mut self, message: &[u8], out: &mut Outbox<'_>) {
        let seeks = message.first() == Some(&HANDSHAKE_INITIATION);
        let everywhere = seeks && (self.unanswered > 0 || self.heard_from.is_none());
        self.unanswered = self.unanswered.saturating_add(u32::from(seeks));
        self.last_sent = now();
        self.sent += u64::try_from(message.len()).unwrap_or(0);
        let candidates = self.candidates.iter().filter(|_| everywhere);
        let others = candidates.filter(|candidate| Some(**candidate) != self.heard_from);
        self.heard_from.iter().chain(others).for_each(|to| out.push(*to, message));
    }
}
