//! Network namespaces without a mount and without a fork.
//!
//! A namespace belongs to threads: a short-lived one makes it or goes into it, and a descriptor holds
//! it. It is gone, with all that is in it, when the last descriptor, thread and socket is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace that is there as long as this value is, or something in it.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// A new one, with a loopback device that is down.
    ///
    /// # Errors
    /// The thread could not be made, or the kernel refused: it takes `CAP_SYS_ADMIN`.
    pub fn new() -> io::Result<Self> {
        Self::made_with(|| ()).map(|(namespace, ())| namespace)
    }

    /// A new one, and what a function does in it first.
    ///
    /// # Errors
    /// The same.
    pub fn made_with<T: Send>(first: impl FnOnce() -> T + Send) -> io::Result<(Self, T)> {
        in_thread(|| {
            leave_namespace()?;
            let fd = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
            Ok((Self { fd }, first()))
        })?
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        Ok(Self { fd: File::open("/proc/thread-self/ns/net")?.into() })
    }

    /// Does something in it, in a thread of its own. Sockets that are opened there stay there.
    ///
    /// # Errors
    /// The thread could not be made or could not enter.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_thread(|| {
            enter(self.fd.as_fd())?;
            Ok(work())
        })?
    }

    /// The descriptor that holds it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Namespace {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

/// Moves the calling thread into a network namespace for good.
///
/// # Errors
/// The descriptor is none of a network namespace, or the right is missing.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Moves the calling thread into a new network namespace for good.
#[expect(unsafe_code, reason = "the safe function is deprecated for the sake of another flag")]
fn leave_namespace() -> io::Result<()> {
    // SAFETY: descriptors stay shared between the threads; only CLONE_FILES would part them.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().map_err(|panic| -> io::Error { std::panic::resume_unwind(panic) })
    })
}
