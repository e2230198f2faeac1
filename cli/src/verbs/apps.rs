//! `limpet apps`: the applications that are wanted.

use clap::Args;
use limpet_controller::api::types::{ApplicationView, ServiceView};

use crate::client::Client;
use crate::output::{self, Column, Field, ListArgs, Tone, age, column, wide};

/// Arguments of `limpet apps`.
#[derive(Debug, Args)]
pub struct AppsArgs {
    #[command(flatten)]
    list: ListArgs,
}

/// Shows the applications.
///
/// # Errors
/// If the controller does not answer.
pub async fn run(args: &AppsArgs, client: &Client) -> anyhow::Result<()> {
    let found = client.applications().await?;
    output::list(&args.list, &columns(), &found.items)?;
    Ok(())
}

fn columns() -> [Column<ApplicationView>; 5] {
    [
        column("NAME", |app, _| app.name.as_str().into()),
        column("SERVICES", |app, _| app.services.len().into()),
        column("STATUS", |app, _| status(&app.services)),
        column("APPLIED", |app, now_ms| age(app.applied_ms, now_ms).into()),
        wide("REVISION", |app, _| app.revision.into()),
    ]
}

/// `running`, or how many of the services are as they should be.
fn status(services: &[ServiceView]) -> Field {
    let settled = services.iter().filter(|service| service.settled).count();
    if settled == services.len() {
        return Field { text: "settled".into(), tone: Tone::Good };
    }
    Field { text: format!("{settled}/{} settled", services.len()), tone: Tone::Waiting }
}
