//! The agent: one on each node, runs what its assignment says.
//!
//! The folders are the flow: [`link`] brings assignments in, [`ledger`] keeps them, [`reconcile`]
//! decides, [`runtime`] does, [`report`] tells. [`control_loop`] is the one loop that holds them
//! together; `start` is the way from a command line to that loop.

pub mod board;
pub mod calls;
pub mod config;
pub mod control_loop;
pub mod doctor;
pub mod health;
pub mod image;
pub mod keeper;
pub mod ledger;
pub mod link;
pub mod load;
pub mod network;
pub mod probe;
pub mod reconcile;
pub mod report;
pub mod runtime;
pub mod scale;
pub mod schedule;
mod signal;
mod start;

pub use config::{AgentArgs, Config};
pub use start::{AgentError, main_with, run};
