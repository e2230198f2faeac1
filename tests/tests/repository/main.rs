//! What the repository promises about itself, without running Limpet: tidy sources, the bytes of
//! the wire, the cross build's configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cross_toml;
mod tidy;
mod wire_bytes;
