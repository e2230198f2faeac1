//! The keeper: one small single-threaded process a node, parent and reaper of every container.
//!
//! In: requests of the agent over a unix socket ([`wire`]). Out: events, logs, exit records. It is a
//! re-exec of the binary that it is part of, has one thread for its whole life, and calls libcontainer
//! only in forked children. The agent may die, upgrade and restart; the keeper stays. It upgrades
//! by executing the new program in place; if it dies, containers live on and the next one adopts
//! them.
//!
//! - [`start`]: arguments, [`seal`], lock, socket, mount namespace
//! - [`event_loop`]: the loop and the table; [`agent`] requests, [`jobs`] children, [`output`] logs
//! - [`child`]: what is done in forked children: [`bundle`], [`volume`], [`content`], libcontainer,
//!   cleaning
//! - [`exec`]: further processes in containers; [`tenant`] what their forked children do;
//!   [`first`]: terminals, and an init where one is wanted
//! - [`adopt`], [`handover`]: taking over from an earlier keeper, dead or alive

mod adopt;
mod agent;
mod bundle;
pub(crate) mod cgroup;
mod child;
mod container;
pub(crate) mod content;
mod event_loop;
mod exec;
pub mod facts;
mod first;
mod handover;
mod jobs;
pub(crate) mod log;
mod output;
mod passwd;
mod paths;
pub(crate) mod plan;
pub(crate) mod record;
mod seal;
pub(crate) mod socket;
pub(crate) mod start;
mod subpath;
mod sys;
mod tenant;
mod volume;
pub(crate) mod wire;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// The first argument that makes a binary call [`keeper_main`] before it does anything else.
pub const KEEPER_ARGUMENT: &str = "keeper";

/// Runs the keeper: `args` is what follows [`KEEPER_ARGUMENT`] on the command line.
///
/// To be called before any thread is started and before any runtime is made. The process that was
/// started ends with success as soon as a keeper serves the run folder; the keeper itself goes on
/// in a session of its own.
#[must_use]
pub fn keeper_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match start::main(args) {
        Ok(code) => code,
        Err(start::StartError::AlreadyThere) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard error: the agent's at the start, `keeper.log` later. The keeper has no other
/// way to say what nobody asked for.
fn complain(text: &str) {
    // There is nobody left to tell.
    drop(writeln!(std::io::stderr(), "limpet-keeper: {text}"));
}
