//! `limpet node ls|inspect|label|cordon|uncordon|drain|rm`: the machines.

mod change;
mod drain;
mod inspect;
mod labels;

use std::time::Duration;

use clap::{Args, Subcommand};
use limpet_controller::api::types::NodeView;

use crate::client::Client;
use crate::duration;
use crate::output::{self, Column, Field, Format, ListArgs, Tone, age, bytes, column, wide};
use crate::verbs::wait;

pub use drain::DrainError;

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
  limpet node inspect pump-7
  limpet node inspect pump-7 -o json | jq .labels")]
    Inspect {
        /// Its name, as `limpet node ls` shows it
        node: String,
        /// A page for people, or every field as `json` or `yaml`
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
    /// Give a node labels, and take them away
    #[command(after_help = "\
Labels are what deploy.placement names: node.labels.site == north. Those that people give go before those of the
agent's own configuration.

Examples:
  limpet node label pump-7 site=north rack=7
  limpet node label pump-7 rack-              takes the label rack away")]
    Label {
        /// Its name, as `limpet node ls` shows it
        node: String,
        /// `KEY=VALUE` gives, `KEY-` takes away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Let nodes take nothing new; what they run stays
    Cordon {
        /// Their names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Let nodes take work again, after `cordon` or `drain`
    Uncordon {
        /// Their names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Move the work of nodes to others, for instance before maintenance
    #[command(after_help = "\
With --wait it ends with 0 when nothing is left there, with 1 and the reasons when something stays that nobody
else can take, with 124 when the time is over.

Example:
  limpet node drain pump-7 --wait && ssh pump-7 sudo reboot
  limpet node uncordon pump-7")]
    Drain {
        /// Their names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Return when nothing that can be moved is left there
        #[arg(long)]
        wait: bool,
        /// How long to wait at most
        #[arg(
            long, value_name = "DURATION", value_parser = duration::parse,
            default_value = wait::DEFAULT_TIMEOUT, requires = "wait",
        )]
        timeout: Duration,
    },
    /// Remove nodes that are lost or unreachable: their access ends, their work goes to others
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Also those that are ready; what still runs there goes on until the agent is stopped
        #[arg(long)]
        force: bool,
    },
}

/// Shows and changes nodes.
///
/// # Errors
/// If the controller does not answer, has no such node, or refuses.
pub async fn run(args: &NodeArgs, client: &Client) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Ls { list } => output::list(list, &columns(), &client.nodes().await?.items)?,
        Verb::Inspect { node, output } => inspect::run(node, *output, client).await?,
        Verb::Label { node, labels } => change::label(node, labels, client).await?,
        Verb::Cordon { nodes } => change::availability(nodes, "pause", client).await?,
        Verb::Uncordon { nodes } => change::availability(nodes, "active", client).await?,
        Verb::Drain { nodes, wait, timeout } => {
            drain::run(nodes, wait.then_some(*timeout), client).await?;
        }
        Verb::Rm { nodes, force } => change::remove(nodes, *force, client).await?,
    }
    Ok(())
}

fn columns() -> [Column<NodeView>; 13] {
    [
        column("NODE", |node, _| node.node.as_str().into()),
        column("STATUS", status),
        column("PLATFORM", |node, _| node.platform.as_str().into()),
        column("CPU", |node, _| cpu(node.cpu_millis).into()),
        column("MEMORY", |node, _| bytes(node.memory_bytes).into()),
        column("INSTANCES", |node, _| node.instances.into()),
        column("CONTACT", |node, now_ms| age(node.last_contact_ms, now_ms).into()),
        wide("HOSTNAME", |node, _| node.hostname.as_str().into()),
        wide("AGENT", |node, _| node.agent_version.as_str().into()),
        wide("KERNEL", |node, _| node.kernel.as_str().into()),
        wide("SUBNET", |node, _| {
            node.network.as_ref().map(|network| network.subnet.as_str()).unwrap_or_default().into()
        }),
        wide("LABELS", |node, _| labels::in_words(&node.labels).into()),
        column("CONDITIONS", |node, _| shortly(&node.conditions).into()),
    ]
}

/// What a node lacks, without what that costs and how it is mended: `limpet node inspect` has that too.
fn shortly(conditions: &[String]) -> String {
    let what = |it: &String| it.split(": ").next().unwrap_or_default().to_owned();
    conditions.iter().map(what).collect::<Vec<_>>().join("; ")
}

fn status(node: &NodeView, _now_ms: u64) -> Field {
    let tone = match (node.status.as_str(), node.availability.as_str()) {
        ("ready", "active") => Tone::Good,
        ("lost", _) => Tone::Bad,
        _ => Tone::Waiting,
    };
    Field { text: status_words(node), tone }
}

/// How it stands, and whether people let it have work: `ready,cordoned`.
fn status_words(node: &NodeView) -> String {
    let more = match node.availability.as_str() {
        "active" => return node.status.clone(),
        "pause" => "cordoned",
        "drain" if node.instances > 0 => "draining",
        "drain" => "drained",
        other => other,
    };
    format!("{},{more}", node.status)
}

/// CPUs, with a fraction only where there is one.
fn cpu(millis: u32) -> String {
    let (whole, rest) = (millis / 1000, millis % 1000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:03}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn node(status: &str, availability: &str, instances: u32) -> NodeView {
        NodeView {
            node: "n1".into(),
            status: status.into(),
            availability: availability.into(),
            hostname: "n1".into(),
            platform: "linux/arm64".into(),
            agent_version: "1".into(),
            kernel: "6".into(),
            cpu_millis: 4000,
            cpu_reserved_millis: 1500,
            memory_bytes: 1 << 30,
            memory_reserved_bytes: 1 << 20,
            labels: [("site".to_owned(), "north".to_owned())].into(),
            given_labels: [].into(),
            instances,
            wanted_generation: "1.2".into(),
            observed_generation: "1.2".into(),
            last_contact_ms: 1,
            conditions: vec![],
            devices: vec!["/dev/ttyUSB0".into()],
            joined_ms: 1,
            network: None,
        }
    }

    #[test]
    fn a_list_has_what_a_node_lacks_and_no_more() {
        let conditions =
            ["no memory cgroup: limits do not hold; add it".into(), "the clock is behind".into()];
        assert_eq!(shortly(&conditions), "no memory cgroup; the clock is behind");
    }

    #[test]
    fn the_status_says_who_takes_work() {
        for (status, availability, instances, words) in [
            ("ready", "active", 3, "ready"),
            ("lost", "active", 3, "lost"),
            ("ready", "pause", 3, "ready,cordoned"),
            ("ready", "drain", 3, "ready,draining"),
            ("unreachable", "drain", 0, "unreachable,drained"),
        ] {
            assert_eq!(status_words(&node(status, availability, instances)), words);
        }
        assert_eq!((cpu(4000), cpu(1500), cpu(125)), ("4".into(), "1.5".into(), "0.125".into()));
    }
}
