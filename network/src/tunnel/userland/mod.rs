//! WireGuard in this process, for kernels that have none.
//!
//! Two threads: [`outward`] takes packets from the device, encrypts them and sends them, [`inward`] the
//! other way. They share the peers, each behind its own lock. Nothing grows: what cannot be sent or handed over at once
//! is lost, as on any wire.

mod datagrams;
mod inward;
mod outward;
mod peer;
mod tun;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use defguard_boringtun::noise::rate_limiter::RateLimiter;
use defguard_boringtun::x25519;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::event::{EventfdFlags, eventfd};

use super::allowed::Allowed;
use super::{PeerStatus, PrivateKey, PublicKey, TunnelError, TunnelPeer};
use datagrams::{Outbox, Sockets};
use peer::Peer;
use tun::Tun;

/// Room for any packet, encrypted or not.
const SCRATCH_BYTES: usize = 66_000;
/// Initiations a second that are looked at without asking for a cookie (WireGuard's paper, section 5.3).
const MAX_INITIATIONS: u64 = 100;

/// A tunnel of this process.
#[derive(Debug)]
pub(super) struct Userland {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What both threads use.
struct Shared {
    tun: Tun,
    sockets: Sockets,
    key: PrivateKey,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    table: RwLock<Arc<Table>>,
    /// Readable when there are other peers: the outward thread sleeps long while there are none.
    changed: OwnedFd,
    /// Readable when it is over.
    over: OwnedFd,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

/// The peers, found in three ways.
#[derive(Debug)]
struct Table {
    by_key: HashMap<PublicKey, Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    allowed: Allowed<Arc<Peer>>,
}

impl Userland {
    /// Makes the device and begins. Both are in the network namespace of the calling thread.
    pub(super) fn open(device: &str, key: PrivateKey, port: u16) -> Result<Self, TunnelError> {
        let tun = Tun::make(device).map_err(TunnelError::NoTun)?;
        let sockets = Sockets::open(port).map_err(|source| TunnelError::Listen { port, source })?;
        let begin = |source| TunnelError::Begin { source };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = || eventfd(0, flags).map_err(|error| begin(error.into()));
        let (changed, over) = (event()?, event()?);
        let public = x25519::PublicKey::from(key.public().0);
        let shared = Arc::new(Shared {
            tun,
            sockets,
            key,
            public,
            limiter: RateLimiter::new(&public, MAX_INITIATIONS),
            table: RwLock::new(Arc::new(Table {
                by_key: HashMap::new(),
                by_index: HashMap::new(),
                allowed: Allowed::of([]),
            })),
            changed,
            over,
        });
        let mut tunnel = Self { shared, threads: vec![] };
        for (name, work) in
            [("tunnel-out", outward::run as fn(&Shared)), ("tunnel-in", inward::run)]
        {
            let shared = Arc::clone(&tunnel.shared);
            let builder = std::thread::Builder::new().name(name.into());
            tunnel.threads.push(builder.spawn(move || work(&shared)).map_err(begin)?);
        }
        Ok(tunnel)
    }

    /// Makes these the peers; those that stay keep their sessions.
    pub(super) fn set_peers(&self, peers: &[TunnelPeer]) -> Result<(), TunnelError> {
        let old = self.shared.table();
        let mut out = Outbox::new(&self.shared.sockets);
        let mut scratch = vec![0; SCRATCH_BYTES];
        let (mut by_key, mut by_index) = (HashMap::new(), HashMap::new());
        let mut allowed = vec![];
        for wanted in peers {
            let peer = match old.by_key.get(&wanted.key) {
                Some(peer) => {
                    peer.lock().update(wanted, &mut scratch, &mut out);
                    Arc::clone(peer)
                }
                None => {
                    let taken =
                        |index| by_index.contains_key(&index) || old.by_index.contains_key(&index);
                    let index = free_index(taken)?;
                    Arc::new(Peer::new(&self.shared.key, wanted, index))
                }
            };
            allowed.extend(wanted.allowed.iter().map(|subnet| (*subnet, Arc::clone(&peer))));
            by_index.insert(peer.index, Arc::clone(&peer));
            by_key.insert(peer.key, peer);
        }
        out.flush();
        let table = Table { by_key, by_index, allowed: Allowed::of(allowed) };
        let mut place = self.shared.table.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(table);
        rustix::io::write(&self.shared.changed, &1_u64.to_ne_bytes()).ok();
        Ok(())
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        self.shared.table().by_key.values().map(|peer| peer.status()).collect()
    }
}

impl Drop for Userland {
    fn drop(&mut self) {
        rustix::io::write(&self.shared.over, &1_u64.to_ne_bytes()).ok();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An index of 24 bits that nobody has, and nobody can guess.
fn free_index(taken: impl Fn(u32) -> bool) -> Result<u32, TunnelError> {
    loop {
        let mut bytes = [0; 4];
        let filled = SystemRandom::new().fill(&mut bytes);
        let begin = |_| TunnelError::Begin { source: io::Error::other("no random bytes") };
        filled.map_err(begin)?;
        let index = u32::from_ne_bytes(bytes) >> 8;
        if !taken(index) {
            return Ok(index);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the rim: the threads of the tunnel read the clock")]
fn now() -> Instant {
    Instant::now()
}
