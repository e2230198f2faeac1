//! The command line: every verb, and what `--help` says about the whole.

use clap::{Args, Parser, Subcommand};

use crate::connection::ConnectionArgs;
use crate::exit;
use crate::verbs::{
    agent, apply, apps, completion, config, contents, controller, cp, events, exec, explain, flash,
    image, inspect, logs, node, plan, ps, restart, rm, rollout, scale, services, start, stop,
    token, top, up, version, wait,
};

/// Runs containers from Compose files on a fleet of small machines.
///
/// Begin with `sudo limpet up` (all of it on this machine), then, in another terminal,
/// `sudo limpet apply -f compose.yaml` and `sudo limpet ps`. A fleet is a `limpet controller` and
/// a `limpet agent` on each machine.
#[derive(Debug, Parser)]
#[command(name = "limpet", version, after_help = AFTER, max_term_width = 100)]
#[command(propagate_version = false, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER: &str = "\
Where the controller is and the token that opens it are looked for in this order:
  flags         --server, --token
  environment   LIMPET_SERVER, LIMPET_TOKEN
  files         ~/.config/limpet/client.toml, then the client.toml that a controller on this machine
                writes into its data folder (that of LIMPET_DATA, else the default ones)

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 controller not reachable, 4 not found, 5 token refused,
6 conflict, 7 the plan has something to do, 124 time is over.

`limpet VERB --help` has examples.";

/// Arguments of a verb that asks a controller.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub struct Asks<A: Args> {
    #[command(flatten)]
    pub(crate) verb: A,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start everything on this machine: controller, broker and one agent
    Up(up::UpArgs),
    /// Make the applications of a Compose file wanted
    Apply(Asks<apply::ApplyArgs>),
    /// Show what an apply would do
    Plan(Asks<plan::PlanArgs>),
    /// List instances: where each runs and how it fares
    Ps(Asks<ps::PsArgs>),
    /// Show what containers have written
    Logs(Asks<logs::LogsArgs>),
    /// Run a command in a container
    Exec(Asks<exec::ExecArgs>),
    /// Copy files from and to a container
    Cp(Asks<cp::CpArgs>),
    /// Show what instances use: processor, memory, processes, network
    Top(Asks<top::TopArgs>),
    /// List services, and why one is not as wanted
    Services(Asks<services::ServicesArgs>),
    /// List applications
    #[command(visible_alias = "ls")]
    Apps(Asks<apps::AppsArgs>),
    /// Show what happened, and what happens
    Events(Asks<events::EventsArgs>),
    /// Say why something is not running, not updated, not placed
    Explain(Asks<explain::ExplainArgs>),
    /// Show everything that is known of an application, a service, an instance or a node
    Inspect(Asks<inspect::InspectArgs>),
    /// Wait until an application runs, or say why it does not
    Wait(Asks<wait::WaitArgs>),
    /// Change how many instances services have
    Scale(Asks<scale::ScaleArgs>),
    /// Stop services; they stay as they are until they are started again
    Stop(Asks<stop::StopArgs>),
    /// Start services that were stopped
    Start(Asks<start::StartArgs>),
    /// Replace the instances of services, under their update rules
    Restart(Asks<restart::RestartArgs>),
    /// Updates: how far they are, what was before; pause, resume, undo
    Rollout(Asks<rollout::RolloutArgs>),
    /// Remove applications
    Rm(Asks<rm::RmArgs>),
    /// Show a Compose file as Limpet reads it; keep configs for services
    Config(config::ConfigArgs),
    /// Secrets for services: keep, list, remove
    Secret(contents::SecretArgs),
    /// Nodes: list, inspect, label, cordon, drain, remove
    Node(Asks<node::NodeArgs>),
    /// The controller's own images: load, list, remove
    Image(Asks<image::ImageArgs>),
    /// Tokens for nodes and people: make, list, end
    Token(Asks<token::TokenArgs>),
    /// Images of boards: build, personalize, write to a card
    Flash(flash::FlashArgs),
    /// Run the controller of a fleet
    Controller(controller::ControllerVerbArgs),
    /// Run the agent of a node
    Agent(agent::AgentVerbArgs),
    /// Show the versions of this program and of the controller
    Version(Asks<version::VersionArgs>),
    /// Write the completion script of a shell
    Completion(completion::CompletionArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_connection_may_follow_any_verb() {
        let line = ["limpet", "image", "ls", "--server", "http://a:1", "--token", "t"];
        let cli = Cli::try_parse_from(line).unwrap();
        let Verb::Image(image) = cli.verb else { panic!("not image") };
        assert_eq!(image.connection.server.as_deref(), Some("http://a:1"));
    }
}
