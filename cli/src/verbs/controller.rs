//! `limpet controller`: the controller of a fleet.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `limpet controller`.
#[derive(Debug, Args)]
pub struct ControllerVerbArgs {}

/// Runs the controller until it is told to end.
pub fn run(_args: &ControllerVerbArgs) -> ExitCode {
    ExitCode::FAILURE
}
