//! `limpet node ls|inspect`: the machines.

use clap::{Args, Subcommand};
use limpet_controller::api::types::NodeView;

use crate::client::Client;
use crate::output::{self, Column, Field, Format, ListArgs, Tone, age, bytes, column, wide};

/// Arguments of `limpet node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the nodes
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show everything about one node
    #[command(after_help = "\
Example:
  limpet node inspect pump-7 -o json | jq .labels")]
    Inspect {
        /// Its name, as `limpet node ls` shows it
        node: String,
        /// `json`, or `yaml` for every other format
        #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
        output: Format,
    },
}

/// Shows nodes.
///
/// # Errors
/// If the controller does not answer, or has no such node.
pub async fn run(args: &NodeArgs, client: &Client) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Ls { list } => output::list(list, &columns(), &client.nodes().await?.items)?,
        Verb::Inspect { node, output } => output::object(*output, &client.node(node).await?)?,
    }
    Ok(())
}

fn columns() -> [Column<NodeView>; 12] {
    [
        column("NODE", |node, _| node.node.as_str().into()),
        column("STATUS", status),
        column("PLATFORM", |node, _| node.platform.as_str().into()),
        column("CPU", |node, _| cpu(node).into()),
        column("MEMORY", |node, _| bytes(node.memory_bytes).into()),
        column("INSTANCES", |node, _| node.instances.into()),
        column("CONTACT", |node, now_ms| age(node.last_contact_ms, now_ms).into()),
        wide("HOSTNAME", |node, _| node.hostname.as_str().into()),
        wide("AGENT", |node, _| node.agent_version.as_str().into()),
        wide("KERNEL", |node, _| node.kernel.as_str().into()),
        wide("LABELS", |node, _| labels(node).into()),
        column("CONDITIONS", |node, _| node.conditions.join("; ").into()),
    ]
}

fn status(node: &NodeView, _now_ms: u64) -> Field {
    let tone = match node.status.as_str() {
        "ready" => Tone::Good,
        "lost" => Tone::Bad,
        _ => Tone::Waiting,
    };
    Field { text: node.status.clone(), tone }
}

/// CPUs, with a fraction only where there is one.
fn cpu(node: &NodeView) -> String {
    let (whole, rest) = (node.cpu_millis / 1000, node.cpu_millis % 1000);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:03}") }
}

fn labels(node: &NodeView) -> String {
    let each: Vec<String> =
        node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    each.join(",")
}
