//! `limpet stop`: services have no instances until they are started again.

use clap::Args;
use limpet_controller::api::types::ServicePatch;

use crate::client::Client;
use crate::targets::Target;
use crate::verbs::change::{Changes, Until, WaitArg};

/// Arguments of `limpet stop`.
#[derive(Debug, Args)]
#[command(after_help = "\
The containers get their stop signal and, after their stop_grace_period, are ended. Volumes stay. The next `limpet apply`
of the application starts its services again, as `limpet start` does.

Examples:
  limpet stop shop.web
  limpet stop shop --wait && echo all of it has stopped")]
pub struct StopArgs {
    /// What to stop: all services of an application, or one
    #[arg(required = true, value_name = "APP|APP.SERVICE")]
    targets: Vec<Target>,
    #[command(flatten)]
    wait: WaitArg,
}

/// Stops services.
///
/// # Errors
/// If there is no such application or service, or it does not come to be in time.
pub async fn run(args: &StopArgs, client: &Client) -> anyhow::Result<()> {
    let change = ServicePatch { stopped: Some(true), ..ServicePatch::default() };
    Changes::of(&args.targets, &change).make("stops", Until::Gone, &args.wait, client).await
}
