//! `limpet-controller`: the controller as a program of its own. Everything is in the library.

use std::process::ExitCode;

use clap::Parser;
use limpet_controller::config::ControllerArgs;

/// The controller of Limpet: keeps what people want and tells nodes what to run.
#[derive(Debug, Parser)]
#[command(name = "limpet-controller", version)]
struct Command {
    #[command(flatten)]
    args: ControllerArgs,
}

fn main() -> ExitCode {
    limpet_controller::process::main(Command::parse().args)
}
