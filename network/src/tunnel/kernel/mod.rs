//! WireGuard in the kernel, told over generic netlink what to do (linux/wireguard.h).
//!
//! The kernel's state is the only memory: what differs is found out by asking it. So an agent that starts
//! again takes over a device whose sessions went on meanwhile.

mod message;
#[cfg(test)]
mod message_tests;
mod seek;
#[cfg(test)]
mod seek_tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::device::is;
use super::{PeerStatus, PrivateKey, PublicKey, TunnelError, TunnelPeer};
use crate::netlink::{Batch, Socket};
use message::KernelPeer;
use seek::Seeker;

/// `NETLINK_GENERIC` (linux/netlink.h).
const GENERIC: isize = 16;
/// How often a peer that does not answer is sought elsewhere: the protocol repeats a handshake after so
/// long (WireGuard's paper, section 6.4).
const SEEK_EVERY: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// A device of the kernel's WireGuard.
#[derive(Debug)]
pub(super) struct Kernel {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that seeks peers uses too.
#[derive(Debug)]
struct Shared {
    device: String,
    family: u16,
    socket: Mutex<Socket>,
    seeker: Mutex<Seeker>,
    /// Readable when it is over.
    over: OwnedFd,
}

impl Kernel {
    /// Sets the device up; none if the kernel cannot be told.
    pub(super) fn open(
        device: &str,
        key: &PrivateKey,
        port: u16,
    ) -> Result<Option<Self>, TunnelError> {
        let begin = |source| TunnelError::Begin { source };
        let socket = Socket::open(GENERIC).map_err(begin)?;
        let Some(family) = find_family(&socket)? else { return Ok(None) };
        let mut batch = Batch::default();
        message::set_device(&mut batch, family, device, (key.expose(), port));
        socket.perform(&batch)?;
        let shared = Arc::new(Shared {
            device: device.to_owned(),
            family,
            socket: Mutex::new(socket),
            seeker: Mutex::default(),
            over: eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| begin(error.into()))?,
        });
        let seeking = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("tunnel-seek".into());
        let thread = builder.spawn(move || seeking.seek()).map_err(begin)?;
        Ok(Some(Self { shared, thread: Some(thread) }))
    }

    /// Makes these the peers.
    pub(super) fn set_peers(&self, peers: &[TunnelPeer]) -> Result<(), TunnelError> {
        let now = self.shared.peers()?;
        let mut batch = Batch::default();
        let mut seeker = self.shared.seeker.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = seeker.set(peers, &now);
        message::set_peers(&mut batch, (self.shared.family, &self.shared.device), peers, &now);
        for (key, endpoint) in endpoints {
            message::set_endpoint(
                &mut batch,
                (self.shared.family, &self.shared.device),
                key,
                endpoint,
            );
        }
        self.shared.perform(&batch)
    }

    pub(super) fn status(&self) -> Result<Vec<PeerStatus>, TunnelError> {
        let now = clock();
        Ok(self.shared.peers()?.into_values().map(|peer| peer.status(now)).collect())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        rustix::io::write(&self.shared.over, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Tries the places where peers may be in turn, while they do not answer. Runs until it is over.
    fn seek(&self) {
        loop {
            let mut over = [PollFd::new(&self.over, PollFlags::IN)];
            poll(&mut over, Some(&SEEK_EVERY)).ok();
            if !over[0].revents().is_empty() {
                return;
            }
            let mut seeker = self.seeker.lock().unwrap_or_else(PoisonError::into_inner);
            if !seeker.has_choice() {
                continue;
            }
            let Ok(peers) = self.peers() else { continue };
            let mut batch = Batch::default();
            for (key, endpoint) in seeker.next(&peers, clock()) {
                message::set_endpoint(&mut batch, (self.family, &self.device), key, endpoint);
            }
            // What failed is tried again at the next turn.
            drop(self.perform(&batch));
        }
    }

    fn peers(&self) -> Result<HashMap<PublicKey, KernelPeer>, TunnelError> {
        let mut request = Batch::default();
        message::get_device(&mut request, self.family, &self.device);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = socket.list(&request)?;
        Ok(message::peers(parts.iter().map(Vec::as_slice)))
    }

    fn perform(&self, batch: &Batch) -> Result<(), TunnelError> {
        if batch.len() == 0 {
            return Ok(());
        }
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(socket.perform(batch)?)
    }
}

/// The number by which the kernel's WireGuard is addressed; none if it has none.
fn find_family(socket: &Socket) -> Result<Option<u16>, TunnelError> {
    let mut request = Batch::default();
    message::get_family(&mut request);
    match socket.get(&request) {
        Ok(body) => Ok(message::family(&body)),
        Err(refused) if is(&refused.source, Errno::NOENT) => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

/// Since 1970: the kernel says in these terms when it last heard of a peer.
#[expect(clippy::disallowed_methods, reason = "the rim: it is compared with the kernel's clock")]
fn clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Where a peer is sent to.
type Endpoint = (PublicKey, SocketAddr);
