//! The tunnel to other nodes: WireGuard's protocol, by the kernel or, where it has none, by the agent.
//!
//! In: the node's key, and the peers as the controller tells them. Out: a device that packets for
//! addresses of other nodes are routed to.

mod key;

use std::net::SocketAddr;
use std::time::Duration;

use limpet_protocol::network::{Subnet, TunnelKind};

pub use key::{KEY_BYTES, KeyError, PrivateKey, PublicKey};

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
    /// How long ago the last handshake was; none was yet, or it is too old to send with.
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
    #[error("open /dev/net/tun")]
    NoTun(#[source] std::io::Error),
}

/// A tunnel. It is closed and its device is gone when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    kind: TunnelKind,
}

impl Tunnel {
    /// Opens it: by the kernel if that has WireGuard, else by threads of this process.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn open(settings: TunnelSettings) -> Result<Self, TunnelError> {
        drop(settings);
        Ok(Self { kind: TunnelKind::Userland })
    }

    /// Who encrypts.
    #[must_use]
    pub const fn kind(&self) -> TunnelKind {
        self.kind
    }

    /// Makes these the peers. Only what differs is changed: the sessions of the others go on.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn set_peers(&mut self, peers: &[TunnelPeer]) -> Result<(), TunnelError> {
        let _ = peers;
        Ok(())
    }

    /// How the peers are.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn status(&self) -> Result<Vec<PeerStatus>, TunnelError> {
        Ok(vec![])
    }
}
