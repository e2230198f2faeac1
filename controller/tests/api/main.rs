//! The API as clients see it: over HTTP, against its own OpenAPI document.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod claims;
mod contents;
mod document;
mod garbage;
mod images;
mod inside;
mod streams;
mod verbs;
mod whole;
mod world;
