//! Where peers are sought that do not answer. Deciding code.
//!
//! The kernel knows one place for each peer, which is where it last heard of it. Until it does, the places
//! where the peer may be are tried in turn.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Endpoint;
use super::message::KernelPeer;
use crate::tunnel::{PublicKey, TunnelPeer};

/// After this without a handshake no key is left to send with (WireGuard's paper, section 6.1,
/// Reject-After-Time): the peer is not where it was.
const LOST_AFTER: Duration = Duration::from_secs(180);

/// The places of each peer, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Seeker {
    peers: HashMap<PublicKey, (Vec<SocketAddr>, usize)>,
}

impl Seeker {
    /// Takes other places. Says which the kernel is to be told at once: those of peers that it knows no place
    /// of, or no place that still counts.
    pub(super) fn set(
        &mut self,
        peers: &[TunnelPeer],
        kernel: &HashMap<PublicKey, KernelPeer>,
    ) -> Vec<Endpoint> {
        let mut told = vec![];
        let mut next = HashMap::new();
        for peer in peers {
            let before = self.peers.remove(&peer.key);
            let same = before.as_ref().is_some_and(|(places, _)| *places == peer.endpoints);
            let turn = before.filter(|_| same).map_or(0, |(_, turn)| turn);
            next.insert(peer.key, (peer.endpoints.clone(), turn));
            let place = kernel.get(&peer.key).and_then(|kernel| kernel.endpoint);
            let answered =
                kernel.get(&peer.key).is_some_and(|kernel| !kernel.last_handshake.is_zero());
            let counts = place.is_some_and(|place| answered || peer.endpoints.contains(&place));
            told.extend(peer.endpoints.first().filter(|_| !counts).map(|place| (peer.key, *place)));
        }
        self.peers = next;
        told
    }

    /// Whether there is anything to try.
    pub(super) fn has_choice(&self) -> bool {
        self.peers.values().any(|(places, _)| places.len() > 1)
    }

    /// The next place of each peer that does not answer where it is.
    pub(super) fn next(
        &mut self,
        kernel: &HashMap<PublicKey, KernelPeer>,
        now: Duration,
    ) -> Vec<Endpoint> {
        let mut told = vec![];
        for (key, (places, turn)) in &mut self.peers {
            let Some(peer) = kernel.get(key) else { continue };
            let lost = peer.age(now).is_none_or(|age| age > LOST_AFTER);
            if places.len() < 2 || !lost {
                continue;
            }
            *turn = (*turn + 1) % places.len();
            told.extend(places.get(*turn).map(|place| (*key, *place)));
        }
        told
    }
}
