//! Limpet as a whole: real controller, real brokers, real agents, real containers.
//!
//! One program, so that everything is linked once; one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and it has to look at the clock"
)]

mod autoscale;
mod bad_starts;
mod contents;
mod garbage;
mod hostile;
mod images;
mod kills;
mod look_inside;
mod networks;
mod nodes;
mod published;
mod registry;
mod scaling;
mod service;
mod short;
mod updates;
mod voting;
