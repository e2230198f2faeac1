//! The name server of a node's containers (RFC 1035; TCP as in RFC 7766; EDNS as in RFC 6891).
//!
//! In: questions on the gateway address, the names ([`crate::names`]) as they are now, and the name servers
//! of the node's `resolv.conf`. Out: answers. What is Limpet's is answered at once; the rest is asked of
//! those servers, with a bound on how many questions are on their way. Nothing is cached: the servers asked do
//! that, and what is answered here must not be old.
//!
//! [`Server::run`] may have a runtime and a thread of its own: containers can send as many questions as
//! they like, and the agent's loop should not be what pays for it.

mod desk;
mod message;
#[cfg(test)]
mod message_tests;
mod outstanding;
mod tcp;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::names::Names;
use desk::{Desk, Handled};
use message::MAX_QUERY_BYTES;

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
        source: io::Error,
    },
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

impl Server {
    /// Begins to listen, on UDP and TCP. An IPv6 address that the node has not is passed over if there are
    /// others: a node without IPv6 has containers without.
    ///
    /// # Errors
    /// [`DnsError::Listen`].
    pub async fn bind(settings: Settings) -> Result<Self, DnsError> {
        let mut sockets = vec![];
        for address in settings.listen.iter().copied() {
            let failed = |protocol| move |source| DnsError::Listen { address, protocol, source };
            let udp = match UdpSocket::bind(address).await {
                Ok(udp) => udp,
                Err(error) if address.is_ipv6() && !sockets.is_empty() && is_absent(&error) => {
                    continue;
                }
                Err(error) => return Err(failed("UDP")(error)),
            };
            // With port 0 (in tests) both are to have the same.
            let same = udp.local_addr().map_err(failed("UDP"))?;
            let tcp = TcpListener::bind(same).await.map_err(failed("TCP"))?;
            sockets.push((udp, tcp));
        }
        Ok(Self { settings, sockets })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|(udp, _)| udp.local_addr()).collect()
    }

    /// Serves until the names' sender is gone or the future is dropped: that stops all that it began.
    pub async fn run(self, names: watch::Receiver<Arc<Names>>) {
        let own = self.addresses().unwrap_or_else(|_| self.settings.listen.clone());
        let mut gone = names.clone();
        let desk = Arc::new(Desk::new(names, self.settings.resolv_conf, own));
        let mut loops = JoinSet::new();
        for (udp, tcp) in self.sockets {
            loops.spawn(serve_udp(Arc::clone(&desk), Arc::new(udp)));
            loops.spawn(tcp::serve(Arc::clone(&desk), tcp));
        }
        while gone.changed().await.is_ok() {}
        // The sockets are free when this is over.
        loops.shutdown().await;
    }
}

/// Whether the node has no such address, or no such addresses at all.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|code| absent.contains(&code))
}

/// Answers what comes in packets.
async fn serve_udp(desk: Arc<Desk>, socket: Arc<UdpSocket>) {
    let mut forwards = JoinSet::new();
    // One byte more, so that what is too long is seen.
    let mut buffer = vec![0; MAX_QUERY_BYTES + 1];
    loop {
        tokio::select! {
            Some(_) = forwards.join_next() => {}
            received = socket.recv_from(&mut buffer) => {
                // An error belongs to an answer that did not arrive: nothing can be done for it.
                let Ok((length, from)) = received else { continue };
                match desk.handle(from.ip(), &buffer[..length], None) {
                    Handled::Ignore => {}
                    Handled::Reply(reply) => send(&socket, &reply, from),
                    Handled::Forward(forward) => {
                        let socket = Arc::clone(&socket);
                        forwards.spawn(async move {
                            let limit = forward.query.udp_limit();
                            let reply = forward.ask(limit).await;
                            send(&socket, &reply, from);
                        });
                    }
                }
            }
        }
    }
}

/// Sends an answer, or drops it where the way is blocked: who asked asks again.
fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    drop(socket.try_send_to(reply, to));
}
