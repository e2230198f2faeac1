//! Whole boards, emulated, each with the image that is flashed: ARM and cgroup v2, where Limpet is at home.
//!
//! They need `images/cross` and minutes, so they run only when they are asked for: `tests/boards`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cards;
mod idle;

mod packages;
mod pair;
mod power;
mod wifi;
