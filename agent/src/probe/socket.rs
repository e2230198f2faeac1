//! A connection that is made within the network of a container.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Enough for the few calls that the thread makes.
const STACK_BYTES: usize = 64 * 1024;

/// Whose network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The node's.
    Node,
    /// That of a process.
    Of {
        /// Its id.
        pid: u32,
    },
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// No socket could be made there.
    Namespace(io::Error),
    /// Nobody takes it.
    Connect(io::Error),
}

/// Connects to a port on the loopback device of a network: over IPv4, and where nobody listens over
/// IPv6, as `localhost` would.
pub(super) async fn connect(network: Network, port: u16) -> Result<TcpStream, ConnectError> {
    let by_v4 = connect_to(network, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    match by_v4 {
        Err(ConnectError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let by_v6 = connect_to(network, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await;
            // A node without IPv6 says so; what matters is that nobody listens.
            by_v6.map_err(|_| ConnectError::Connect(error))
        }
        result => result,
    }
}

async fn connect_to(network: Network, address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match network {
        Network::Node => make(family),
        Network::Of { pid } => make_within(pid, family).await,
    };
    let socket = socket.map_err(ConnectError::Namespace)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.connect(address).await.map_err(ConnectError::Connect)
}

fn make(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Makes a socket in the network of a process. A thread that has moved cannot be trusted to come
/// back: it does this one thing and ends.
async fn make_within(pid: u32, family: AddressFamily) -> io::Result<OwnedFd> {
    let (answer, answered) = oneshot::channel();
    let make_there = move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        make(family)
    };
    std::thread::Builder::new()
        .name("probe".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || drop(answer.send(make_there())))?;
    answered.await.map_err(|_| io::Error::other("the thread ended early"))?
}
