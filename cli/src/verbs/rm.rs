//! `limpet rm`: an application is no longer wanted.

use std::time::Duration;

use clap::Args;
use limpet_protocol::id::ApplicationName;

use crate::client::Client;
use crate::targets::Target;
use crate::verbs::wait::{self, Awaited};
use crate::{duration, output};

/// Arguments of `limpet rm`.
#[derive(Debug, Args)]
#[command(after_help = "\
Named volumes stay on their nodes.

Examples:
  limpet rm shop
  limpet rm shop --wait && echo all of it has stopped")]
pub struct RmArgs {
    /// The applications
    #[arg(required = true, value_name = "APP")]
    applications: Vec<ApplicationName>,
    /// Return when the last container has stopped, at most after DURATION
    #[arg(
        long, value_name = "DURATION", value_parser = duration::parse,
        num_args = 0..=1, require_equals = true, default_missing_value = wait::DEFAULT_TIMEOUT,
    )]
    wait: Option<Duration>,
}

/// Removes applications.
///
/// # Errors
/// If there is no such application, or it does not stop in time.
pub async fn run(args: &RmArgs, client: &Client) -> anyhow::Result<()> {
    for application in &args.applications {
        let outcome = client.remove(application.as_str()).await?;
        if let Some(timeout) = args.wait {
            let target = Target::whole(application.clone());
            let awaited = Awaited { target: &target, revision: Some(outcome.revision) };
            wait::until_gone(awaited, timeout, client).await?;
        }
        let (removed, revision) = (outcome.removed.join(", "), outcome.revision);
        output::print(&format!("removed {application} ({removed}) at revision {revision}\n"))?;
    }
    Ok(())
}
