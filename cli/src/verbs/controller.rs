//! `limpet controller`: what `limpet-controller` is, from the same program.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `limpet controller`.
#[derive(Debug, Args)]
pub struct ControllerVerbArgs {
    #[command(flatten)]
    controller: limpet_controller::config::ControllerArgs,
}

/// Runs the controller until it is told to end.
#[must_use]
pub fn run(args: ControllerVerbArgs) -> ExitCode {
    limpet_controller::process::main(args.controller)
}
