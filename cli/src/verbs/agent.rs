//! `limpet agent`: what `limpet-agent` is, from the same program.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `limpet agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
The program limpet-agent is the same without the rest of the limpet command: a smaller file for a small machine.

Examples:
  sudo limpet agent --controller mqtt://10.0.0.5:1883 --join-token TOKEN    the first time
  sudo limpet agent --config /etc/limpet/agent.toml                         afterwards

The token comes from `limpet token create` on the controller's machine.")]
pub struct AgentVerbArgs {
    #[command(flatten)]
    agent: limpet_agent::AgentArgs,
}

/// Runs the agent until it is told to end.
pub fn run(args: &AgentVerbArgs) -> ExitCode {
    limpet_agent::main_with(&args.agent)
}
