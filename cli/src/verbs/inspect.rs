//! `limpet inspect`: everything that is known of one thing.

use clap::Args;

use crate::client::Client;
use crate::output::{self, Format};
use crate::verbs::explain::Kind;

/// Arguments of `limpet inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
What people want of it, where its instances are, how they fare (phase, health, last exit), and why: for programs and for
those who want all of it. `limpet explain` says the matter in a sentence.

Examples:
  limpet inspect shop.web
  limpet inspect shop.web.2 -o json | jq .instances[0].exit_code
  limpet inspect pump-7 --kind node")]
pub struct InspectArgs {
    /// An application, a service, an instance or a node
    #[arg(value_name = "APP|APP.SERVICE|INSTANCE|NODE")]
    name: String,
    /// What the name means, where it could be several
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// `json`, or `yaml` for every other format
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: Format,
}

/// Shows it.
///
/// # Errors
/// If the controller does not answer, or has nothing of that name.
pub async fn run(args: &InspectArgs, client: &Client) -> anyhow::Result<()> {
    let it = client.inspect(&args.name, args.kind.map(Kind::as_str)).await?;
    output::object(args.output, &it)?;
    Ok(())
}
