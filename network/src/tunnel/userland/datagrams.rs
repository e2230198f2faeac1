//! The UDP sockets between nodes: one for each family, many packets a call.
//!
//! The kernel cuts one large buffer into packets and puts packets together (UDP GSO and GRO), where it can:
//! a call for each packet would cost more than encrypting it.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// What waits in the kernel for this process: a tenth of a second at 160 Mbit/s.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// The largest that UDP can carry.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// The kernel takes no more than this at once, packets and headers together.
const MAX_BATCH_BYTES: usize = 60_000;
/// How many buffers are filled with one call.
const BUFFERS: usize = 4;
/// How long a packet waits for room in the socket's buffer before it is lost.
const ROOM_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    v4: Socket,
    /// A node may have no IPv6 at all.
    v6: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    inner: UdpSocket,
    state: UdpSocketState,
}

impl Sockets {
    /// Opens them in the network namespace of the calling thread.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let v4 = Socket::open((Ipv4Addr::UNSPECIFIED, port).into())?;
        let v6 = Socket::open((Ipv6Addr::UNSPECIFIED, port).into()).ok();
        Ok(Self { v4, v6 })
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        core::iter::once(&self.v4).chain(&self.v6)
    }

    /// What to wait for packets on.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all().map(|socket| socket.inner.as_fd())
    }

    fn to(&self, destination: SocketAddr) -> Option<&Socket> {
        if destination.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() }
    }
}

impl Socket {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(family, kind, flags, Some(ipproto::UDP))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        // More than net.core.rmem_max needs a right that an agent has, and a test may not have.
        for set in [
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES),
            sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES),
        ] {
            set.ok();
        }
        let inner = UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&inner))?;
        // A path may carry less than 1480 bytes, as over mobile networks: then packets are cut rather
        // than lost, as the kernel's WireGuard has it.
        if address.is_ipv4() {
            sockopt::set_ip_mtu_discover(&inner, sockopt::Ipv4PathMtuDiscovery::DONT)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&inner, sockopt::Ipv6PathMtuDiscovery::DONT)?;
        }
        Ok(Self { inner, state })
    }

    fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        let reference = || UdpSockRef::from(&self.inner);
        let sent = self.state.try_send(reference(), &transmit);
        if !matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return sent;
        }
        let mut room = [PollFd::new(&self.inner, PollFlags::OUT)];
        poll(&mut room, Some(&ROOM_WITHIN))?;
        self.state.try_send(reference(), &transmit)
    }
}

/// Packets on their way out, put together while they go to the same place and are of one length.
#[derive(Debug)]
pub(super) struct Outbox<'a> {
    sockets: &'a Sockets,
    destination: Option<SocketAddr>,
    /// How long each packet is; the last may be shorter.
    segment: usize,
    bytes: Vec<u8>,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(sockets: &'a Sockets) -> Self {
        let bytes = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        Self { sockets, destination: None, segment: 0, bytes }
    }

    /// Adds a packet.
    pub(super) fn push(&mut self, destination: SocketAddr, packet: &[u8]) {
        let segments = self.sockets.to(destination).map_or(1, |s| s.state.max_gso_segments());
        let whole = self.segment > 0 && self.bytes.len().is_multiple_of(self.segment);
        let fits = self.destination == Some(destination)
            && whole
            && packet.len() <= self.segment
            && self.bytes.len() / self.segment < segments
            && self.bytes.len() + packet.len() <= MAX_BATCH_BYTES;
        if !fits {
            self.flush();
            self.destination = Some(destination);
            self.segment = packet.len();
        }
        self.bytes.extend_from_slice(packet);
    }

    /// Sends what is there. What cannot be sent is lost, as on any wire.
    pub(super) fn flush(&mut self) {
        let destination = self.destination.take();
        if let Some((destination, socket)) =
            destination.and_then(|d| Some((d, self.sockets.to(d)?)))
            && socket.send(destination, &self.bytes, self.segment).is_err()
            && self.bytes.len() > self.segment
        {
            // The device has no GSO, or the path's packets are smaller than these.
            for packet in self.bytes.chunks(self.segment.max(1)) {
                drop(socket.send(destination, packet, packet.len()));
            }
        }
        self.bytes.clear();
        self.segment = 0;
    }
}

/// Room for what comes in.
#[derive(Debug)]
pub(super) struct Inbox {
    buffers: Vec<Vec<u8>>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { buffers: vec![vec![0; MAX_DATAGRAM_BYTES]; BUFFERS] }
    }

    /// Hands over each packet that has come, as many as fit; whether there may be more.
    pub(super) fn take(
        &mut self,
        sockets: &Sockets,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> bool {
        let mut more = false;
        for socket in sockets.all() {
            let mut meta = [RecvMeta::default(); BUFFERS];
            let mut slices: Vec<_> =
                self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let reference = UdpSockRef::from(&socket.inner);
            let Ok(count) = socket.state.recv(reference, &mut slices, &mut meta) else { continue };
            more |= count == BUFFERS;
            for (buffer, meta) in self.buffers.iter().zip(meta).take(count) {
                let received = buffer.get(..meta.len).unwrap_or_default();
                received.chunks(meta.stride.max(1)).for_each(|packet| each(meta.addr, packet));
            }
        }
        more
    }
}
