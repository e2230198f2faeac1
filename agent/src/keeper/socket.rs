//! The keeper's socket: whole messages in, whole messages out, never waiting.
//!
//! A unix socket of packets (`SOCK_SEQPACKET`), so that a message is never cut. Both ends use this.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recv, recvmsg, send, sendmsg, socket_with, sockopt,
};

use super::wire::{MAX_MESSAGE_BYTES, SOCKET_NAME};

/// Connections that may wait to be accepted: one agent, and one that replaces it.
const BACKLOG: i32 = 4;
/// Descriptors that go with one message: the standard streams of a process.
const MAX_DESCRIPTORS: usize = 3;

/// What a read found.
pub(crate) enum Received {
    /// One whole message, and the descriptors that came with it.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other end is gone.
    Closed,
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    sockopt::set_socket_send_buffer_size(&socket, MAX_MESSAGE_BYTES)?;
    Ok(socket)
}

/// The socket's address through a descriptor of its folder, so that a long path fits.
fn address(run: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(run, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_raw_fd());
    Ok((folder, SocketAddrUnix::new(path)?))
}

/// Listens in the run folder. The caller holds the keeper's lock, so a socket there is a dead one's.
pub(crate) fn listen_in(run: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(run.join(SOCKET_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = new_socket()?;
    let (_folder, address) = address(run)?;
    // The mask makes the file 0600 from its first moment on.
    let old = rustix::process::umask(Mode::from_bits_truncate(0o177));
    let bound = bind(&socket, &address);
    rustix::process::umask(old);
    bound?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the keeper of a run folder.
pub(crate) fn connect_to(run: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let (_folder, address) = address(run)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Accepts a connection of the same user or root; none if nobody (or somebody else) is there.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let socket = match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => socket,
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let peer = sockopt::socket_peercred(&socket)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        return Ok(None);
    }
    sockopt::set_socket_send_buffer_size(&socket, MAX_MESSAGE_BYTES)?;
    Ok(Some(socket))
}

/// Takes one message, if there is one.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Received> {
    let mut probe = [0_u8; 1];
    let length = match recv(&socket, &mut probe, RecvFlags::PEEK | RecvFlags::TRUNC) {
        Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Received::Closed),
        Ok((_, length)) => length,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
        Err(error) => return Err(error.into()),
    };
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::other(format!("a message of {length} bytes is too large")));
    }
    let mut message = vec![0; length];
    let (length, descriptors) = receive_with(&socket, &mut message)?;
    message.truncate(length);
    Ok(Received::Message(message, descriptors))
}

/// Sends one message; false if there is no room for it now.
pub(crate) fn transmit(socket: impl AsFd, message: &[u8]) -> io::Result<bool> {
    match send(socket, message, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends one message with descriptors; false if there is no room for it now.
pub(crate) fn transmit_with(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<bool> {
    if descriptors.is_empty() {
        return transmit(socket, message);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    match sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The descriptors that come with the next bytes of a stream; waits for nothing.
pub(crate) fn receive_descriptors(socket: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0; 64];
    let (_, descriptors) = receive_with(socket, &mut byte)?;
    Ok(descriptors)
}

/// Reads one message and the descriptors that come along, at most [`MAX_DESCRIPTORS`]: the kernel
/// closes what is more.
fn receive_with(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((received.bytes, rights.flatten().collect()))
}

/// What a child says of itself: each packet and the process id of who wrote it, as the kernel
/// translates it into this namespace of processes.
pub(crate) fn receive_from_process(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<u32>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::DONTWAIT)?;
    let pid = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(who) => {
            Some(who.pid.as_raw_nonzero().get().unsigned_abs())
        }
        _ => None,
    });
    Ok((received.bytes, pid))
}
