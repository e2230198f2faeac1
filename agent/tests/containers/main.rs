//! Real containers through a real keeper: needs root. Every test has its own folders, its own
//! cgroup parent and its own keeper, and leaves nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test that calls them"
)]

mod bench;
mod contents;
mod exec;
mod isolation;
mod life;
mod lifecycle;
mod limits;
mod node;
mod process;
mod recovery;
