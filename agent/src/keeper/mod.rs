//! The keeper: one small single-threaded process a node, parent and reaper of every container.
//!
//! In: requests of the agent over a unix socket. Out: events, logs, exit records. It is a re-exec
//! of the binary that it is part of, has one thread for its whole life, and calls libcontainer
//! only in forked children. The agent may die, upgrade and restart; the keeper stays.

use std::ffi::OsString;
use std::process::ExitCode;

/// The first argument that makes a binary call [`keeper_main`] before it does anything else.
pub const KEEPER_ARGUMENT: &str = "keeper";

/// Runs the keeper: `args` is what follows [`KEEPER_ARGUMENT`] on the command line.
///
/// To be called before any thread is started and before any runtime is made.
#[must_use]
pub fn keeper_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    drop(args);
    ExitCode::FAILURE
}
