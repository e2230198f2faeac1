//! `limpet up`: everything on this machine with one command.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `limpet up`.
#[derive(Debug, Args)]
pub struct UpArgs {}

/// Runs everything until it is told to end.
pub fn run(_args: &UpArgs) -> ExitCode {
    ExitCode::FAILURE
}
