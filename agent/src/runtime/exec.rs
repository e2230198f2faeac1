//! Exec: a further process in a container that runs, as the runtime is asked for it.
//!
//! In: [`ExecRequest`] with the streams that the process gets. Out: one [`ExecOutcome`] for every
//! request that was accepted, whatever happens. The keeper never touches the streams: who asks holds
//! their other ends and reads and writes them at its own pace.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

pub use limpet_protocol::call::TerminalSize;

use super::ContainerId;

/// Execs at the same time on a node: each is a process, and three descriptors while it waits.
pub const MAX_EXECS: usize = 128;
/// Execs at the same time in one container, so that one cannot take all of the node's.
pub const MAX_EXECS_PER_CONTAINER: usize = 16;
/// Exit code of a command that is there and cannot be executed, as shells and Docker have it.
pub const NOT_EXECUTABLE: i32 = 126;
/// Exit code of a command that is not there.
pub const NOT_FOUND: i32 = 127;

/// One exec of this agent. Never used twice by one runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(pub u64);

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec {}", self.0)
    }
}

/// A further process in a container.
#[derive(Debug)]
pub struct ExecRequest {
    /// Which container; it must run.
    pub container: ContainerId,
    /// The program and its arguments. A program without `/` is looked for in the container's `PATH`.
    pub command: Vec<String>,
    /// Values on top of the environment that the container's own process was given.
    pub environment: Vec<(String, String)>,
    /// An absolute path; none is the container's own.
    pub working_dir: Option<String>,
    /// `user[:group]`; none is who the container runs as.
    pub user: Option<String>,
    /// What it reads and writes.
    pub streams: ExecStreams,
}

/// The process's ends of its streams.
#[derive(Debug)]
pub enum ExecStreams {
    /// Three descriptors.
    Pipes {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own. Its controlling side comes over the other end of `socket`
    /// ([`receive_terminal`]) before the program begins.
    Terminal {
        /// One end of a pair of unix sockets.
        socket: OwnedFd,
        /// Its size at first.
        size: TerminalSize,
    },
}

/// The caller's ends of [`ExecStreams::piped`].
#[derive(Debug)]
pub struct CallerEnds {
    /// Written to by the caller; none where standard input is empty.
    pub stdin: Option<OwnedFd>,
    /// Read by the caller.
    pub stdout: OwnedFd,
    /// Read by the caller; none where standard error goes into standard output.
    pub stderr: Option<OwnedFd>,
}

impl ExecStreams {
    /// No input, and output that nobody reads.
    ///
    /// # Errors
    /// An I/O error if there is no descriptor left.
    pub fn silent() -> io::Result<Self> {
        let null = || -> io::Result<OwnedFd> {
            Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
        };
        Ok(Self::Pipes { stdin: null()?, stdout: null()?, stderr: null()? })
    }

    /// No input, and both outputs in one pipe in the order in which they were written; what a health
    /// check needs. The read end is non-blocking.
    ///
    /// # Errors
    /// An I/O error if there is no descriptor left.
    pub fn output_only() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let stdin = File::open("/dev/null")?.into();
        let stderr = write.try_clone()?;
        Ok((Self::Pipes { stdin, stdout: write, stderr }, read))
    }

    /// A pipe for each stream; the caller's ends are non-blocking. Without `input` standard input is
    /// empty.
    ///
    /// # Errors
    /// An I/O error if there is no descriptor left.
    pub fn piped(input: bool) -> io::Result<(Self, CallerEnds)> {
        let (stdout_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin, stdin_write) = if input {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(write))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        for end in
            [Some(&stdout_read), Some(&stderr_read), stdin_write.as_ref()].into_iter().flatten()
        {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let ends =
            CallerEnds { stdin: stdin_write, stdout: stdout_read, stderr: Some(stderr_read) };
        Ok((Self::Pipes { stdin, stdout, stderr }, ends))
    }

    /// A terminal; its controlling side is received from the socket.
    ///
    /// # Errors
    /// An I/O error if there is no descriptor left.
    pub fn terminal(size: TerminalSize) -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::STREAM;
        let (caller, socket) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&caller, true)?;
        Ok((Self::Terminal { socket, size }, caller))
    }
}

/// The controlling side of a terminal, from the caller's end of [`ExecStreams::terminal`]; to be
/// called once the exec was started. It is made non-blocking.
///
/// # Errors
/// An I/O error if none was sent.
pub fn receive_terminal(caller: &OwnedFd) -> io::Result<OwnedFd> {
    let mut fds = crate::keeper::socket::receive_descriptors(caller)?;
    let terminal = fds.pop().ok_or_else(|| io::Error::other("no terminal was sent"))?;
    rustix::io::ioctl_fionbio(&terminal, true)?;
    Ok(terminal)
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecOutcome {
    /// It ran and ended with this code; 128 and the signal's number if a signal ended it.
    Exited(i32),
    /// The command could not be executed.
    NotExecuted {
        /// [`NOT_FOUND`] or [`NOT_EXECUTABLE`].
        code: i32,
        /// Why, for a person to read.
        reason: String,
    },
    /// Nothing was executed: the container does not run, or there are too many at a time.
    Refused {
        /// Why, for a person to read.
        reason: String,
    },
    /// The keeper was lost or replaced: whether the process goes on is not known.
    Lost,
}
