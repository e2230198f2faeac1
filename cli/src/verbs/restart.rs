//! `limpet restart`: the instances of services are replaced by the same ones.

use clap::Args;
use limpet_controller::api::types::ServicePatch;

use crate::client::Client;
use crate::targets::Target;
use crate::verbs::change::{Changes, Until, WaitArg};

/// Arguments of `limpet restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
The instances are replaced under the update rules of the service (deploy.update_config: how many at a time, which goes first),
as if its file had changed. A service that was stopped is started.

Examples:
  limpet restart shop.web
  limpet restart shop --wait=2m")]
pub struct RestartArgs {
    /// What to restart: all services of an application, or one
    #[arg(required = true, value_name = "APP|APP.SERVICE")]
    targets: Vec<Target>,
    #[command(flatten)]
    wait: WaitArg,
}

/// Restarts services.
///
/// # Errors
/// If there is no such application or service, or it does not come to be in time.
pub async fn run(args: &RestartArgs, client: &Client) -> anyhow::Result<()> {
    let change = ServicePatch { restart: true, stopped: Some(false), ..ServicePatch::default() };
    Changes::of(&args.targets, &change).make("restarts", Until::Settled, &args.wait, client).await
}
