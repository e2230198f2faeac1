//! Thin binary: reads the command line and hands over to the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use limpet_agent::AgentArgs;
use limpet_agent::board::{self, BoardVerb};
use limpet_agent::doctor::{self, DoctorArgs};

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
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    args: AgentArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what this machine lacks to be a good node, what that costs and how it is mended
    ///
    /// Exit codes: 0 nothing found, 1 something found.
    Doctor(DoctorArgs),
    /// What the scripts of Limpet's board images call
    #[command(hide = true)]
    Board {
        #[command(subcommand)]
        verb: BoardVerb,
    },
}

const EXIT_CODES: &str = "Exit codes: 0 told to end; 1 other failure; 2 bad configuration; 3 not root; \
4 no usable cgroup; 5 data folder in use by another agent; 6 unreadable state file; 7 join refused";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == limpet_agent::keeper::KEEPER_ARGUMENT) {
        return limpet_agent::keeper::keeper_main(args);
    }
    let cli = Cli::parse();
    match cli.verb {
        None => limpet_agent::main_with(&cli.args),
        Some(Verb::Doctor(args)) => doctor::main_with(&args),
        Some(Verb::Board { verb }) => board::main_with(&verb),
    }
}
