//! `limpet start`: services that were stopped run again.

use clap::Args;
use limpet_controller::api::types::ServicePatch;

use crate::client::Client;
use crate::targets::Target;
use crate::verbs::change::{Changes, Until, WaitArg};

/// Arguments of `limpet start`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  limpet start shop.web --wait")]
pub struct StartArgs {
    /// What to start: all services of an application, or one
    #[arg(required = true, value_name = "APP|APP.SERVICE")]
    targets: Vec<Target>,
    #[command(flatten)]
    wait: WaitArg,
}

/// Starts services.
///
/// # Errors
/// If there is no such application or service, or it does not come to be in time.
pub async fn run(args: &StartArgs, client: &Client) -> anyhow::Result<()> {
    let change = ServicePatch { stopped: Some(false), ..ServicePatch::default() };
    Changes::of(&args.targets, &change).make("starts", Until::Settled, &args.wait, client).await
}
