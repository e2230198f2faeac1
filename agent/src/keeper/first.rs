//! The first process of a container where it is more than its program: with a terminal, or under an
//! init of ours.
//!
//! In: what the plan says, and the socket over which the terminal's controlling side goes to the
//! keeper. Out: the program in its place. The init is this very process, which forks instead of
//! becoming the program: there is no file that the image would have to have. It passes signals on,
//! reaps whoever is left to it, and ends as the program ends.

use std::os::fd::RawFd;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use limpet_protocol::call::TerminalSize;
use rustix::process::{WaitOptions, WaitStatus, wait};
use rustix::termios::Winsize;

use super::child::chain;
use super::sys;

/// The size of a container's terminal, which nobody looks at.
const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// Makes a terminal of the container's own (of its devpts, belonging to who the process runs as),
/// sends its controlling side over `socket`, and makes it the process's streams.
pub(super) fn open_terminal(socket: RawFd, size: TerminalSize) -> Result<(), String> {
    let syscall = SyscallType::default().create_syscall();
    libcontainer::tty::setup_console(syscall.as_ref(), socket, false).map_err(|e| chain(&e))?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A program that asks finds none, as on a serial line.
    rustix::termios::tcsetwinsize(rustix::stdio::stdin(), size).ok();
    Ok(())
}

/// What is done before the program.
#[derive(Clone)]
pub(super) struct First {
    /// The number of the socket for a terminal; the value that owned it is the parent's.
    pub terminal: Option<RawFd>,
    pub init: bool,
}

impl Executor for First {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(socket) = self.terminal {
            open_terminal(socket, SIZE).map_err(|error| {
                tracing::error!("make a terminal: {error}");
                ExecutorError::Other(error)
            })?;
        }
        if self.init {
            let failed = |error: std::io::Error| ExecutorError::Other(error.to_string());
            // Where the container has the node's processes, it is not the one that orphans go to.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|errno| failed(errno.into()))?;
            sys::block_signals();
            match sys::fork().map_err(failed)? {
                sys::Fork::Parent(program) => be_init(program),
                sys::Fork::Child => sys::reset_signals(),
            }
        }
        DefaultExecutor {}.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}

/// Passes signals on and reaps, until the program has ended.
fn be_init(program: rustix::process::Pid) -> ! {
    // What is inherited and would be closed when a program is executed; the keeper waits for that.
    sys::close_all_but(&[]);
    loop {
        let number = sys::next_signal();
        if number != sys::CHILD_SIGNAL {
            if let Some(signal) = sys::signal(number) {
                // One that has just ended needs none.
                rustix::process::kill_process(program, signal).ok();
            }
            continue;
        }
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if ended == program {
                sys::exit_now(code_of(status));
            }
        }
    }
}

fn code_of(status: WaitStatus) -> i32 {
    let signalled = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signalled).unwrap_or(255)
}
