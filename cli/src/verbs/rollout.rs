//! `limpet rollout`: how far updates are, what they were, and what people do about them.

use clap::{Args, Subcommand};
use limpet_controller::api::types::{
    RevisionView, RolloutOutcome, RolloutRequest, ServiceRolloutView,
};

use crate::client::Client;
use crate::output::{self, Column, Field, Format, ListArgs, Tone, age, column, wide};
use crate::targets::Target;
use crate::verbs::change::WaitArg;
use crate::verbs::wait::{self, Awaited};

/// Arguments of `limpet rollout`.
#[derive(Debug, Args)]
#[command(after_help = "\
An update goes as the service's deploy.update_config says. One that fails pauses, or goes back to the version that last proved
itself; then `resume` tries it again, and `undo` or an apply of another file wants something else.

Examples:
  limpet rollout status shop
  limpet rollout history shop
  limpet rollout pause shop.web
  limpet rollout undo shop.web --to-revision 12 --wait")]
pub struct RolloutArgs {
    #[command(subcommand)]
    verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
enum RolloutVerb {
    /// Show how far the updates of an application are
    Status(ShowArgs),
    /// Show the revisions of an application that are kept
    History(ShowArgs),
    /// Begin no further instance
    Pause(ChangeArgs),
    /// Go on, or try again what was rolled back
    Resume(WaitedArgs),
    /// Want an earlier revision again
    Undo(UndoArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The application, or one service of it
    #[arg(value_name = "APP|APP.SERVICE")]
    target: Target,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// The application, or one service of it
    #[arg(value_name = "APP|APP.SERVICE")]
    target: Target,
    /// How to show what was done
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Args)]
struct WaitedArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    wait: WaitArg,
}

#[derive(Debug, Args)]
struct UndoArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Which revision (`limpet rollout history`); without it, the one before
    #[arg(long, value_name = "REVISION")]
    to_revision: Option<u64>,
    #[command(flatten)]
    wait: WaitArg,
}

/// Shows or changes rollouts.
///
/// # Errors
/// If there is no such application or service, or the controller refuses.
pub async fn run(args: &RolloutArgs, client: &Client) -> anyhow::Result<()> {
    match &args.verb {
        RolloutVerb::Status(args) => status(args, client).await,
        RolloutVerb::History(args) => history(args, client).await,
        RolloutVerb::Pause(args) => order(args, ("pause", None), None, client).await,
        RolloutVerb::Resume(args) => {
            order(&args.change, ("resume", None), Some(&args.wait), client).await
        }
        RolloutVerb::Undo(args) => {
            order(&args.change, ("undo", args.to_revision), Some(&args.wait), client).await
        }
    }
}

async fn status(args: &ShowArgs, client: &Client) -> anyhow::Result<()> {
    let mut items = client.rollouts(args.target.application.as_str()).await?.items;
    items.retain(|item| args.target.means(&item.service));
    output::list(&args.list, &status_columns(), &items)?;
    Ok(())
}

async fn history(args: &ShowArgs, client: &Client) -> anyhow::Result<()> {
    let mut items = client.rollout_history(args.target.application.as_str()).await?.items;
    // A service keeps the revisions that changed it.
    items.retain(|item| item.changed.iter().any(|name| args.target.means(name)));
    output::list(&args.list, &history_columns(), &items)?;
    Ok(())
}

async fn order(
    args: &ChangeArgs,
    (action, to_revision): (&str, Option<u64>),
    wait: Option<&WaitArg>,
    client: &Client,
) -> anyhow::Result<()> {
    let service = args.target.service.as_ref().map(ToString::to_string);
    let request = RolloutRequest { action: action.to_owned(), service, to_revision };
    let outcome = client.order_rollout(args.target.application.as_str(), &request).await?;
    match args.output {
        Format::Table | Format::Wide => output::print(&told(action, &outcome))?,
        format => output::object(format, &outcome)?,
    }
    if let Some(timeout) = wait.and_then(|wait| wait.wait) {
        let awaited = Awaited { target: &args.target, revision: outcome.revision };
        wait::until_settled(awaited, timeout, client).await?;
    }
    Ok(())
}

fn told(action: &str, outcome: &RolloutOutcome) -> String {
    let RolloutOutcome { application, services, revision } = outcome;
    let did = match action {
        "pause" => "is paused",
        "resume" => "goes on",
        _ => "is as it was",
    };
    let at = revision.map(|revision| format!(" (revision {revision})")).unwrap_or_default();
    if services.is_empty() {
        return format!("{application}: nothing changed{at}\n");
    }
    services.iter().map(|service| format!("{application}.{service} {did}{at}\n")).collect()
}

fn status_columns() -> [Column<ServiceRolloutView>; 7] {
    [
        column("SERVICE", |item, _| item.service.as_str().into()),
        column("STATE", state),
        column("UPDATED", |item, _| {
            let rollout = item.rollout.as_ref();
            // At rest nothing is counted.
            let rollout = rollout.filter(|it| it.total > 0);
            rollout.map(|it| format!("{}/{}", it.updated, it.total)).unwrap_or_default().into()
        }),
        column("FAILED", |item, _| item.rollout.as_ref().map_or(0, |it| it.failed).into()),
        wide("AWAY", |item, _| item.rollout.as_ref().map_or(0, |it| it.away).into()),
        wide("SETTLED", |item, _| if item.settled { "yes" } else { "no" }.into()),
        column("REASON", |item, _| {
            item.rollout.as_ref().and_then(|it| it.reason.clone()).unwrap_or_default().into()
        }),
    ]
}

fn state(item: &ServiceRolloutView, _now_ms: u64) -> Field {
    let state = item.rollout.as_ref().map_or("done", |rollout| rollout.state.as_str());
    let tone = match state {
        "done" => Tone::Good,
        "updating" | "rolling_back" => Tone::Waiting,
        _ => Tone::Bad,
    };
    Field { text: state.replace('_', " "), tone }
}

fn history_columns() -> [Column<RevisionView>; 4] {
    [
        column("REVISION", |item, _| item.revision.into()),
        column("AGE", |item, now_ms| age(item.applied_ms, now_ms).into()),
        column("CURRENT", |item, _| if item.current { "yes" } else { "" }.into()),
        column("CHANGE", |item, _| item.change.as_str().into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_for_each_service() {
        let outcome = RolloutOutcome {
            application: "shop".into(),
            services: vec!["db".into(), "web".into()],
            revision: Some(7),
        };
        let expected = "shop.db is as it was (revision 7)\nshop.web is as it was (revision 7)\n";
        assert_eq!(told("undo", &outcome), expected);
        let nothing = RolloutOutcome { services: vec![], revision: Some(6), ..outcome };
        assert_eq!(told("undo", &nothing), "shop: nothing changed (revision 6)\n");
    }
}
