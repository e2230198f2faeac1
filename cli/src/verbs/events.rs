//! `limpet events`: what happened, and what happens.

use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use limpet_controller::api::types::EventView;

use crate::client::Client;
use crate::duration;
use crate::output::{self, Column, Field, Format, ListArgs, Tone, age, column, wide};

/// Arguments of `limpet events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  limpet events                       what the controller keeps
  limpet events --since 10m           of the last ten minutes
  limpet events --since 4711          after the event with that id (see -o wide)
  limpet events --follow -o json      one JSON object a line, without end")]
pub struct EventsArgs {
    /// Go on as events happen, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only those after the event with this id, or of the last DURATION such as 10m
    #[arg(long, value_name = "ID|DURATION", value_parser = parse_since)]
    since: Option<Since>,
    #[command(flatten)]
    list: ListArgs,
}

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// After this event.
    Id(u64),
    /// Of this long.
    Ago(Duration),
}

fn parse_since(text: &str) -> Result<Since, String> {
    match text.parse() {
        Ok(id) => Ok(Since::Id(id)),
        Err(_) => duration::parse(text).map(Since::Ago),
    }
}

/// Shows events.
///
/// # Errors
/// If the controller does not answer, or the connection breaks.
pub async fn run(args: &EventsArgs, client: &Client) -> anyhow::Result<()> {
    let (id, from_ms) = match args.since {
        None => (0, 0),
        Some(Since::Id(id)) => (id, 0),
        Some(Since::Ago(ago)) => {
            let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            (0, output::now_ms().saturating_sub(ago_ms))
        }
    };
    let wanted = |event: &EventView| event.at_ms >= from_ms;
    if !args.follow {
        let mut items = client.events(id).await?.items;
        items.retain(wanted);
        output::list(&args.list, &columns(), &items)?;
        return Ok(());
    }
    let events = client.follow_events(id).await?;
    let mut events = std::pin::pin!(events.try_filter(|event| std::future::ready(wanted(event))));
    while let Some(event) = events.next().await {
        output::print(&line(args.list.output, &event?)?)?;
    }
    anyhow::bail!("the controller at {} ended the stream of events", client.server())
}

fn columns() -> [Column<EventView>; 6] {
    [
        wide("ID", |event, _| event.id.into()),
        column("AGE", |event, now_ms| age(event.at_ms, now_ms).into()),
        column("KIND", kind),
        column("NODE", |event, _| event.node.as_deref().unwrap_or_default().into()),
        column("INSTANCE", |event, _| event.instance.as_deref().unwrap_or_default().into()),
        column("MESSAGE", |event, _| event.message.as_str().into()),
    ]
}

fn kind(event: &EventView, _now_ms: u64) -> Field {
    let bad = ["failed", "out_of_memory", "refused", "back_off", "lost", "unreachable"];
    let tone =
        if bad.iter().any(|word| event.kind.contains(word)) { Tone::Bad } else { Tone::Plain };
    Field { text: event.kind.clone(), tone }
}

/// One event of a stream: columns of a fixed width, because what comes is not known.
fn line(format: Format, event: &EventView) -> anyhow::Result<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    Ok(match format {
        Format::Json => serde_json::to_string(event)? + "\n",
        Format::Yaml => format!("---\n{}", serde_saphyr::to_string(event)?),
        Format::Table | Format::Wide => format!(
            "{}  {:<20} {:<16} {:<24} {}\n",
            clock(event.at_ms),
            event.kind,
            or_dash(&event.node),
            or_dash(&event.instance),
            event.message
        ),
    })
}

/// The time of day in UTC: `21:04:05Z`.
fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_id_or_a_duration() {
        assert_eq!(parse_since("4711"), Ok(Since::Id(4711)));
        assert_eq!(parse_since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn a_followed_event_is_one_line() {
        let event = EventView {
            id: 1,
            at_ms: 75_845_000,
            node: Some("n1".into()),
            instance: None,
            kind: "started".into(),
            message: "it runs".into(),
        };
        let text = line(Format::Table, &event).unwrap();
        assert_eq!(text.split_whitespace().next(), Some("21:04:05Z"));
        assert_eq!(text.lines().count(), 1);
        assert_eq!(line(Format::Json, &event).unwrap().lines().count(), 1);
    }
}
