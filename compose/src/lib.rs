//! Compose files in, [`limpet_protocol::application::Application`] out, with diagnostics.
//!
//! [`load`] takes the names of files, an environment and a way to read files ([`Files`]), and gives
//! a [`Project`]: everything interpolated, merged, extended, included and in the long syntax. From
//! there `limpet config` prints it and `limpet apply` makes an application of it.
//!
//! The way of a file: [`yaml`] text → tree with places; [`interpolate`] variables; [`canonical`]
//! checks every key against the table ([`keys`]) and makes long syntax of short ([`short`]);
//! [`extends`] and [`include`] bring in others; [`merge`] puts files over each other; [`project`]
//! finishes the whole; [`lower`] makes the application.
//!
//! Nothing here panics on any input, and everything is bounded ([`limits`]).

mod canonical;
mod contents;
mod diagnostic;
mod dotenv;
mod extends;
mod files;
mod include;
mod interpolate;
pub mod keys;
pub mod limits;
mod loader;
mod lower;
mod merge;
mod node;
mod paths;
mod project;
mod short;
mod units;
mod yaml;

pub use contents::{ContentFrom, ContentKind, ContentSource, Hidden};
pub use diagnostic::{Diagnostic, Severity};
pub use files::{Files, MemoryFiles, RealFiles};
pub use loader::{LoadOptions, load};
pub use project::Project;
