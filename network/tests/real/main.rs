//! The network with real sockets, devices and namespaces. Each test makes namespaces of its own, which are
//! gone with its threads; the machine's own network is never touched. Needs root: without it there is
//! nothing to test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod dns;
mod neighbours;
mod place;
mod tunnel;
