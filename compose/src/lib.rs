//! Compose files in, [`limpet_protocol::application::Application`] out, with diagnostics.
//!
//! [`load`] takes the names of files, an environment and a way to read files ([`Files`]), and gives
//! a [`Project`]: everything interpolated, merged, extended, included and in the long syntax. From
//! there `limpet config` prints it and `limpet apply` makes an application of it.
//!
//!
//! Nothing here panics on any input, and everything is bounded ([`limits`]).

mod diagnostic;
mod files;
pub mod limits;
mod loader;
mod node;
mod project;

pub use diagnostic::{Diagnostic, Severity};
pub use files::{Files, MemoryFiles, RealFiles};
pub use loader::{LoadOptions, load};
pub use project::Project;
