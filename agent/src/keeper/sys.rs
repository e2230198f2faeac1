//! The system calls that no safe wrapper has: fork, signal masks, descriptors at fork and exec.
//!
//! Everything here is small and says why it is sound; the rest of the keeper has no `unsafe`.
#![allow(unsafe_code, reason = "fork, exec, signal masks and ioctl have no safe wrapper")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, Signal};

/// Which side of a [`fork`] this is.
pub(super) enum Fork {
    /// The old process, with the new one's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Whether this process has one thread only.
fn is_single_threaded() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Forks. The child is a full copy and may do anything, because there is no other thread.
pub(super) fn fork() -> io::Result<Fork> {
    assert!(is_single_threaded()?, "the keeper has one thread: a fork would copy held locks");
    // SAFETY: one thread only, checked above, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Ends this process at once: no destructors, no exit handlers of the parent's copy.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Blocks SIGCHLD and returns a descriptor that is readable when a child changed.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is used; both calls only read it.
    let fd = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    own(fd)
}

/// Ignores the signals by which a terminal or a service manager ends a group of processes: the
/// keeper ends when it is told to over its socket, so that no exit code is lost.
pub(super) fn ignore_terminal_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition for these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The signal that says that a child has ended.
pub(super) const CHILD_SIGNAL: i32 = libc::SIGCHLD;

/// Keeps every signal back until [`next_signal`] takes it.
pub(super) fn block_signals() {
    // SAFETY: `set` is initialised by sigfillset before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for the next signal and takes it.
pub(super) fn next_signal() -> i32 {
    loop {
        // SAFETY: `set` is initialised by sigfillset; no information about the signal is asked for.
        let number = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
        };
        if number > 0 {
            return number;
        }
    }
}

/// Gives signals back their defaults: blocked and ignored ones survive exec and would be the
/// container's.
pub(super) fn reset_signals() {
    // SAFETY: `set` is initialised by sigemptyset; SIG_DFL is valid for every signal asked.
    unsafe {
        for signal in 1..32 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Closes every descriptor but standard input, output, error and those given. For a forked child
/// only: what it closes, its own values still name, so it must not use them again.
pub(super) fn close_all_but(keep: &[BorrowedFd<'_>]) {
    const FIRST: u32 = 3;
    let mut keep: Vec<u32> =
        keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut from = FIRST;
    for end in keep.iter().copied().filter(|fd| *fd >= FIRST).chain([u32::MAX]) {
        let to = if end == u32::MAX { end } else { end - 1 };
        // SAFETY: closing descriptors of a forked child touches no memory; the caller gives up the
        // values that name them.
        if from <= to && unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } != 0 {
            close_one_by_one(&keep);
            return;
        }
        from = end.saturating_add(1);
    }
}

/// For kernels before 5.9, which have no `close_range`.
fn close_one_by_one(keep: &[u32]) {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<u32> = listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && !keep.contains(fd))
        .collect();
    for fd in open {
        // SAFETY: as in `close_all_but`.
        unsafe { libc::close(RawFd::try_from(fd).unwrap_or(-1)) };
    }
}

/// Makes `fd` the standard input, output and error that `places` names.
pub(super) fn redirect(fd: BorrowedFd<'_>, places: &[RawFd]) -> io::Result<()> {
    for place in places.iter().filter(|place| (0..=2).contains(*place)) {
        // SAFETY: only the three standard streams are replaced, which nothing here owns.
        if unsafe { libc::dup2(fd.as_raw_fd(), *place) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes descriptor `fd`, handed over by the program that this one replaced.
pub(super) fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the descriptor is open.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::other(format!("descriptor {fd} was not handed over")));
    }
    // SAFETY: it is open, and the program before this one handed it over to be owned here.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Writes to a descriptor by its number: a container's first process has a copy of the value that
/// named it and of the descriptor, which is closed when it executes its program.
pub(super) fn write_inherited(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the bytes live across the call; a closed or reused descriptor gets an error or a line
    // of text, and this process ends or executes its program right after.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Replaces this process by the program that `fd` is open on. Returns only the reason why not.
pub(super) fn exec_fd(fd: BorrowedFd<'_>, args: &[&OsStr]) -> io::Error {
    let Ok(args): Result<Vec<CString>, _> =
        args.iter().map(|arg| CString::new(arg.as_bytes())).collect()
    else {
        return io::ErrorKind::InvalidInput.into();
    };
    let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // The environment may hold secrets of the agent, and LISTEN_FDS would reach the container.
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both arrays end with a null pointer and their strings live across the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Makes the mount that `tree` is open on read-only.
pub(super) fn make_read_only(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the structure is four 64-bit words, as `struct mount_attr` is, and is only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves namespaces that were shared.
pub(super) fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: descriptors stay shared or not as they were: callers ask for namespaces only.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// A signal by its number, real-time ones included.
pub(super) fn signal(number: i32) -> Option<Signal> {
    // SAFETY: the range has no signal that the C library keeps for itself (32 and 33), and a
    // signal that is only sent, never handled here, cannot break this process.
    (matches!(number, 1..=31 | 34..=64)).then(|| unsafe { Signal::from_raw_unchecked(number) })
}

/// Brings up the loopback device of the network namespace that this process is in.
pub(super) fn bring_up_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid value of a plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = libc::c_char::try_from(*byte).unwrap_or(0);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives across the call.
    let done = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw const request,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives memory that is free back to the node.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A sealed copy of `source` in memory, for kernels that cannot make a read-only mount of a file.
pub(super) fn sealed_copy(source: &std::path::Path) -> io::Result<OwnedFd> {
    const NAME: &CStr = c"limpet-keeper";
    // SAFETY: the name is a C string that lives across the call.
    let fd =
        unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    let mut copy = std::fs::File::from(own(fd)?);
    io::copy(&mut std::fs::File::open(source)?, &mut copy)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes an integer and touches no memory of ours.
    if unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(copy.into())
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
