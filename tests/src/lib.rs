//! Whole-system tests: real broker, real containers, real network.
//!
//! The library is what the tests in `tests/` and the benchmark stand on; nothing of it is shipped.
//! A failure here is a failed test, so everything unwraps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and it has to look at the clock"
)]

pub mod board;
pub mod fleet;
pub mod process;
pub mod registry;
pub mod site;
pub mod wire;
