//! `limpet version`: which programs these are.

use clap::Args;
use serde::Serialize;

use crate::client::Client;
use crate::output::{self, Format};

/// Arguments of `limpet version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Only this program; ask no controller
    #[arg(long)]
    client: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<limpet_controller::api::types::VersionView>,
}

/// Whether a controller has to be asked.
#[must_use]
pub fn needs_controller(args: &VersionArgs) -> bool {
    !args.client
}

/// Shows the versions; `client` is none if no controller is to be asked.
///
/// # Errors
/// If the controller does not answer: the version of this program is shown all the same.
pub async fn run(args: &VersionArgs, client: Option<&Client>) -> anyhow::Result<()> {
    let asked = match client {
        Some(client) => Some((client.server(), client.version().await)),
        None => None,
    };
    let (server, asked) = asked.unzip();
    let (controller, error) = match asked {
        Some(Ok(controller)) => (Some(controller), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), controller };
    match args.output {
        Format::Json | Format::Yaml => output::object(args.output, &versions)?,
        Format::Table | Format::Wide => {
            let mut text = format!("limpet      {}\n", versions.client);
            if let (Some(it), Some(server)) = (&versions.controller, server) {
                text += &format!("controller  {} at {server}", it.version);
                text += &format!(" (epoch {}, revision {})\n", it.epoch, it.revision);
            }
            output::print(&text)?;
        }
    }
    error.map_or(Ok(()), |error| Err(error.into()))
}
