//! `limpet apply`: what the Compose file says is wanted from now on.

use std::time::Duration;

use clap::Args;
use limpet_controller::api::types::ApplyOutcome;

use crate::client::Client;
use crate::compose_files::{ComposeArgs, accept};
use crate::contents::{self, Keep};
use crate::output::Format;
use crate::targets::Target;
use crate::verbs::wait::Awaited;
use crate::verbs::{plan, ps, wait};
use crate::{duration, output};

/// Arguments of `limpet apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is the whole of the application: services that are no longer in it are removed. Applying the same file again
changes nothing. Keys that Limpet cannot honour are refused with their line; `limpet config -f FILE` shows how it reads a file.

Examples:
  limpet apply                                   the compose.yaml here
  limpet apply -f compose.yaml -f site.yaml      a base and what differs at this site
  limpet apply -f shop.yaml --wait=2m            return when it runs, or say why not
  limpet apply -f shop.yaml --if-revision 12     only what `limpet plan` has shown
  generate-compose | limpet apply -f - -p shop   from a program")]
pub struct ApplyArgs {
    #[command(flatten)]
    compose: ComposeArgs,
    /// Return when the application runs, or say why not; at most after DURATION [default: 5m]
    #[arg(
        long, value_name = "DURATION", value_parser = duration::parse,
        num_args = 0..=1, require_equals = true, default_missing_value = wait::DEFAULT_TIMEOUT,
    )]
    wait: Option<Duration>,
    /// Only if the application is still at this revision, as `limpet plan` shows it (0: not there yet)
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    /// Show what it would do and stop, as `limpet plan` does
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

/// Applies the file.
///
/// # Errors
/// If the file has errors (they have been shown), the controller refuses it, or it does not run in time.
pub async fn run(args: &ApplyArgs, client: &Client) -> anyhow::Result<()> {
    let project = args.compose.load()?;
    let mut application = accept(project.to_application())?;
    if args.dry_run {
        contents::resolve(&project, &mut application, Keep::No, client).await?;
        plan::show(&application, Format::Table, client).await?;
        return Ok(());
    }
    contents::resolve(&project, &mut application, Keep::Yes, client).await?;
    let outcome = client.apply(&application, args.if_revision).await?;
    output::print(&summary(&outcome))?;
    if let Some(timeout) = args.wait {
        let target = Target::whole(application.name);
        let awaited = Awaited { target: &target, revision: Some(outcome.revision) };
        wait::until_settled(awaited, timeout, client).await?;
        ps::show(&outcome.application, client).await?;
    }
    Ok(())
}

/// One line for what happened, and one for each service that it happened to.
#[must_use]
pub fn summary(outcome: &ApplyOutcome) -> String {
    let counts = [
        (outcome.added.len(), "added"),
        (outcome.changed.len(), "changed"),
        (outcome.removed.len(), "removed"),
        (outcome.unchanged.len(), "unchanged"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let said = if said.is_empty() { "no services".into() } else { said.join(", ") };
    let mut text = format!("{}: {said} (revision {})\n", outcome.application, outcome.revision);
    for (mark, names) in [("+", &outcome.added), ("~", &outcome.changed), ("-", &outcome.removed)] {
        for name in names {
            text += &format!("  {mark} {name}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_happened_to_whom() {
        let mut outcome = ApplyOutcome {
            application: "shop".into(),
            revision: 7,
            added: vec!["web".into()],
            changed: vec!["db".into()],
            unchanged: vec!["a".into(), "b".into()],
            removed: Vec::new(),
        };
        let expected = "shop: 1 added, 1 changed, 2 unchanged (revision 7)\n  + web\n  ~ db\n";
        assert_eq!(summary(&outcome), expected);
        for list in [&mut outcome.added, &mut outcome.changed, &mut outcome.unchanged] {
            list.clear();
        }
        assert_eq!(summary(&outcome), "shop: no services (revision 7)\n");
    }
}
