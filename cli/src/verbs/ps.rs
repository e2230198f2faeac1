//! `limpet ps`: every instance, where it runs and how it fares.

use std::time::Duration;

use clap::Args;
use limpet_controller::api::types::InstanceView;

use crate::client::Client;
use crate::exit::NotFound;
use crate::output::{self, Column, Field, Format, ListArgs, Tone, age, column, wide};

/// How often `--watch` asks anew.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// Clears a terminal: cursor home, then erase to the end.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Arguments of `limpet ps`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  limpet ps                  every instance
  limpet ps shop             those of the application shop
  limpet ps -w               again and again, until Ctrl-C
  limpet ps -q shop          only names, for scripts
  limpet ps -o json | jq '.[] | select(.phase == \"failed\")'

PHASE is one of pending, assigned, waiting, pulling, creating, running, stopping, completed, failed;
unknown while the node cannot be reached.
PORTS are those of nodes that lead to the instance, as 8080->80/tcp. `-o wide` adds its address.")]
pub struct PsArgs {
    /// Only those of this application
    #[arg(value_name = "APP")]
    application: Option<String>,
    /// Only the names
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// Show it anew every second
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// Shows the instances.
///
/// # Errors
/// If the controller does not answer, or has no such application.
pub async fn run(args: &PsArgs, client: &Client) -> anyhow::Result<()> {
    loop {
        let items = find(args.application.as_deref(), client).await?;
        if args.watch && output::is_terminal() {
            output::print(CLEAR)?;
        }
        if args.quiet {
            let names: String = items.iter().map(|item| item.instance.clone() + "\n").collect();
            output::print(&names)?;
        } else {
            output::list(&args.list, &columns(), &items)?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH_PERIOD).await;
    }
}

/// The table, as other verbs show it at their end.
///
/// # Errors
/// If the controller does not answer.
pub async fn show(application: &str, client: &Client) -> anyhow::Result<()> {
    let items = find(Some(application), client).await?;
    let list = ListArgs { output: Format::Table, no_headers: false };
    output::list(&list, &columns(), &items)?;
    Ok(())
}

async fn find(application: Option<&str>, client: &Client) -> anyhow::Result<Vec<InstanceView>> {
    let items = client.instances(application).await?.items;
    if let (Some(name), true) = (application, items.is_empty()) {
        let known = client.applications().await?.items;
        if !known.iter().any(|app| app.name == name) {
            return Err(NotFound(format!(
                "there is no application {name:?}; `limpet apps` shows those that are"
            ))
            .into());
        }
    }
    Ok(items)
}

/// The columns of the table, as other verbs show them too.
pub(crate) fn columns() -> [Column<InstanceView>; 12] {
    [
        column("INSTANCE", |item, _| item.instance.as_str().into()),
        column("NODE", |item, _| item.node.as_deref().unwrap_or_default().into()),
        column("PHASE", phase),
        column("HEALTH", health),
        column("RESTARTS", |item, _| item.attempt.saturating_sub(1).into()),
        column("AGE", |item, now_ms| age(item.since_ms, now_ms).into()),
        column("IMAGE", |item, _| item.image.as_str().into()),
        column("PORTS", |item, _| item.ports.join(", ").into()),
        wide("ADDRESS", |item, _| item.address.as_deref().unwrap_or_default().into()),
        wide("EXIT", exit),
        wide("CURRENT", |item, _| if item.current { "yes" } else { "no" }.into()),
        column("REASON", |item, _| item.reason.as_deref().unwrap_or_default().into()),
    ]
}

fn phase(item: &InstanceView, _now_ms: u64) -> Field {
    let tone = match item.phase.as_str() {
        "running" | "completed" => Tone::Good,
        "failed" | "unknown" => Tone::Bad,
        _ => Tone::Waiting,
    };
    Field { text: item.phase.clone(), tone }
}

/// Health in the words of Docker; of who has only a ready probe, what that says.
fn health(item: &InstanceView, _now_ms: u64) -> Field {
    let (text, tone) = match (item.health.as_deref(), item.ready) {
        (Some("healthy"), Some(false)) => ("not ready", Tone::Waiting),
        (Some("healthy"), _) => ("healthy", Tone::Good),
        (Some(health), _) => (health, if health == "starting" { Tone::Waiting } else { Tone::Bad }),
        (None, Some(true)) => ("ready", Tone::Good),
        (None, Some(false)) => ("not ready", Tone::Waiting),
        (None, None) => ("", Tone::Plain),
    };
    Field { text: text.to_owned(), tone }
}

fn exit(item: &InstanceView, _now_ms: u64) -> Field {
    let code = item.exit_code.map(|code| code.to_string()).unwrap_or_default();
    if item.out_of_memory { format!("{code} (out of memory)").into() } else { code.into() }
}
