//! `limpet agent`: what `limpet-agent` is, from the same program.

use std::process::ExitCode;

use clap::Args;

use super::up::agent_child;

/// Arguments of `limpet agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
The program limpet-agent is the same without the rest of the limpet command: a smaller file for a small machine.

Examples:
  sudo limpet agent --controller mqtt://10.0.0.5:1883 --join-token TOKEN    the first time
  sudo limpet agent --config /etc/limpet/agent.toml                         afterwards

The token comes from `limpet token create` on the controller's machine.

Exit codes: 0 told to end, 1 other failure, 2 bad configuration, 3 not root, 4 no usable cgroup,
5 data folder in use by another agent, 6 unreadable state file, 7 join refused.")]
pub struct AgentVerbArgs {
    #[command(flatten)]
    agent: limpet_agent::AgentArgs,
}

/// Runs the agent until it is told to end.
#[must_use]
pub fn run(args: &AgentVerbArgs) -> ExitCode {
    if let Ok(parent) = std::env::var(agent_child::PARENT_VARIABLE)
        && let Err(error) = agent_child::become_child(&parent)
    {
        crate::complain(&format!("agent: {error:#}"));
        return ExitCode::FAILURE;
    }
    limpet_agent::main_with(&args.agent)
}
