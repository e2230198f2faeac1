//! The device whose packets a process reads and writes (Documentation/networking/tuntap of the kernel).

#![expect(unsafe_code, reason = "making the device is an ioctl")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

/// Length of a device's name with the zero byte that ends it (`IFNAMSIZ`).
const NAME_BYTES: usize = 16;
/// `TUNSETIFF` (linux/if_tun.h).
const SET_DEVICE: rustix::ioctl::Opcode = opcode::write::<core::ffi::c_int>(b'T', 202);
/// IP packets, without four bytes of protocol before them (`IFF_TUN`, `IFF_NO_PI`).
const FLAGS: u16 = 0x0001 | 0x1000;

/// The device. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Tun(OwnedFd);

/// `struct ifreq` as this ioctl reads it.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: u16,
    padding: [u8; 22],
}

impl Tun {
    /// Makes one in the network namespace of the calling thread.
    pub(super) fn make(name: &str) -> io::Result<Self> {
        let mut request = Request { name: [0; NAME_BYTES], flags: FLAGS, padding: [0; 22] };
        let place = request.name.get_mut(..name.len()).filter(|place| place.len() < NAME_BYTES);
        place.ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name.as_bytes());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/net/tun")?;
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which is what the request is.
        unsafe { ioctl(&file, Updater::<SET_DEVICE, Request>::new(&mut request)) }?;
        Ok(Self(file.into()))
    }

    /// Reads one packet into a buffer; none if none waits.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(&self.0, buffer).ok().filter(|length| *length > 0)
    }

    /// Hands one packet to the kernel. One that it does not take is lost, as on any wire.
    pub(super) fn write(&self, packet: &[u8]) {
        rustix::io::write(&self.0, packet).ok();
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
