//! The tunnel to other nodes: WireGuard's protocol, by the kernel or, where it has none, by the agent.
//!
//! In: the node's key, and the peers as the controller tells them. Out: a device that packets for
//! addresses of other nodes are routed to. That a packet is a peer's is proved by its key; one from an
//! address that is not among the peer's subnets is dropped.
//!
//! Both ways speak the same protocol and talk to each other (docs/decisions/0012). All calls take no longer
//! than a message to the kernel; what lasts is done by threads of the tunnel.

mod allowed;
mod device;
mod kernel;
mod key;
mod userland;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use limpet_protocol::network::{Subnet, TunnelKind};

use crate::picture::Addresses;
use device::Device;
use kernel::Kernel;
pub use key::{KEY_BYTES, KeyError, PrivateKey, PublicKey};
use userland::Userland;

/// What a tunnel is opened with.
#[derive(Debug)]
pub struct TunnelSettings {
    /// The name of its device, at most 15 bytes.
    pub device: String,
    /// The node's key.
    pub key: PrivateKey,
    /// The UDP port that it listens on.
    pub port: u16,
    /// What is routed to it, whoever the peers are: the pools. So nothing that is for a container leaves
    /// in the clear when its node is not known.
    pub routes: Vec<Subnet>,
    /// The address of the node itself that its own connections through the tunnel have: its gateway
    /// address, which it must have already.
    pub source: Option<Addresses>,
    /// Whether the kernel's WireGuard is tried first.
    pub kernel: bool,
}

/// Another node, as the tunnel needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Its key, by which it is known.
    pub key: PublicKey,
    /// Where it may be reached, the likeliest first; where its packets come from wins.
    pub endpoints: Vec<SocketAddr>,
    /// What it may send from, and what is sent to it: its subnets, and fixed addresses of its instances.
    pub allowed: Vec<Subnet>,
    /// How often something is sent to it at the least, so that a NAT between does not forget.
    pub keepalive: Option<Duration>,
}

/// How a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub key: PublicKey,
    /// How long ago the last handshake was. While packets go to and fro there is one every two minutes; none
    /// was yet, or it is so old that its keys are gone.
    pub last_handshake: Option<Duration>,
    /// Where it was last heard from, or where it is sought.
    pub endpoint: Option<SocketAddr>,
    /// Bytes from it.
    pub received: u64,
    /// Bytes to it.
    pub sent: u64,
}

/// Why there is no tunnel, or it cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The kernel has neither WireGuard nor TUN devices.
    #[error("make a TUN device with /dev/net/tun")]
    NoTun(#[source] std::io::Error),
    /// Somebody else listens there.
    #[error("listen for other nodes on UDP port {port}")]
    Listen {
        /// Where.
        port: u16,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The process lacks something that has nothing to do with tunnels.
    #[error("begin with the tunnel")]
    Begin {
        /// What.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused a message.
    #[error("{attempt}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// A tunnel. When it is dropped the agent's is closed and gone. The kernel's stays, so that packets pass
/// while an agent is replaced; the next one takes it over, and [`Tunnel::remove`] removes it.
#[derive(Debug)]
pub struct Tunnel {
    device: Device,
    inner: Inner,
    routes: Vec<Subnet>,
    source: Option<Addresses>,
    peers: Vec<TunnelPeer>,
    /// Routed to it beside those: fixed addresses of peers' instances.
    more_routes: BTreeSet<Subnet>,
}

#[derive(Debug)]
enum Inner {
    Kernel(Kernel),
    Userland(Userland),
}

impl Tunnel {
    /// Opens it in the network namespace of the calling thread: by the kernel if that has WireGuard, else
    /// by threads of this process.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn open(settings: TunnelSettings) -> Result<Self, TunnelError> {
        let TunnelSettings { device, key, port, routes, source, kernel } = settings;
        let device = Device::new(&device)?;
        let by_kernel = if kernel && device.make_wireguard()? {
            Kernel::open(device.name(), &key, port)?
        } else {
            None
        };
        let inner = match by_kernel {
            Some(kernel) => Inner::Kernel(kernel),
            None => Inner::Userland(Userland::open(device.name(), key, port)?),
        };
        device.start()?;
        device.route(routes.iter().copied(), source.as_ref(), true)?;
        let more_routes = BTreeSet::new();
        Ok(Self { device, inner, routes, source, peers: vec![], more_routes })
    }

    /// Who encrypts.
    #[must_use]
    pub const fn kind(&self) -> TunnelKind {
        match self.inner {
            Inner::Kernel(_) => TunnelKind::Kernel,
            Inner::Userland(_) => TunnelKind::Userland,
        }
    }

    /// Makes these the peers. Only what differs is changed: the sessions of the others go on.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn set_peers(&mut self, peers: &[TunnelPeer]) -> Result<(), TunnelError> {
        // None at all may be others than what a kernel's device has from before.
        if self.peers == peers && !peers.is_empty() {
            return Ok(());
        }
        match &self.inner {
            Inner::Kernel(kernel) => kernel.set_peers(peers)?,
            Inner::Userland(userland) => userland.set_peers(peers)?,
        }
        let routed = |subnet: &Subnet| {
            let holds = |route: &Subnet| {
                route.prefix() <= subnet.prefix() && route.contains(subnet.address())
            };
            self.routes.iter().any(holds)
        };
        let allowed = peers.iter().flat_map(|peer| peer.allowed.iter().copied());
        let wanted: BTreeSet<Subnet> = allowed.filter(|subnet| !routed(subnet)).collect();
        let gone = self.more_routes.difference(&wanted).copied();
        self.device.route(gone, None, false)?;
        let new = wanted.difference(&self.more_routes).copied();
        self.device.route(new, self.source.as_ref(), true)?;
        self.more_routes = wanted;
        self.peers = peers.to_vec();
        Ok(())
    }

    /// How the peers are, in no order.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn status(&self) -> Result<Vec<PeerStatus>, TunnelError> {
        match &self.inner {
            Inner::Kernel(kernel) => kernel.status(),
            Inner::Userland(userland) => Ok(userland.status()),
        }
    }

    /// Closes the tunnel for good, whoever encrypts.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn remove(self) -> Result<(), TunnelError> {
        drop(self.inner);
        self.device.remove()
    }
}
