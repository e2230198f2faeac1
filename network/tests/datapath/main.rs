//! Devices and rules in a real kernel: containers are network namespaces with sockets in them, and each
//! test has a node of its own, in a new network namespace.
//!
//! It takes root. Nothing here touches the namespace that the tests are started in.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod balance;
mod leftovers;
mod limits;
mod node;
mod peers;
mod ports;
mod reach;
mod talk;
mod wire;
