//! Thin binary: reads the command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use limpet_agent::AgentArgs;

/// Runs containers on this node as the Limpet controller tells it, and goes on when the controller
/// is away.
///
/// First start:   limpet-agent --controller mqtt://CONTROLLER:1883 --join-token TOKEN
/// Later starts:  limpet-agent --controller mqtt://CONTROLLER:1883
///
/// The token comes from `limpet token create` on the controller's machine. Every flag can also be
/// set in the environment (the name beside it) or in a TOML file given with --config; flags win
/// over the environment, the environment over the file.
#[derive(Parser)]
#[command(name = "limpet-agent", version, verbatim_doc_comment, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    args: AgentArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 told to end; 1 other failure; 2 bad configuration; 3 not root; \
4 no usable cgroup; 5 data folder in use by another agent; 6 unreadable state file; 7 join refused";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == limpet_agent::keeper::KEEPER_ARGUMENT) {
        return limpet_agent::keeper::keeper_main(args);
    }
    limpet_agent::main_with(&Cli::parse().args)
}
