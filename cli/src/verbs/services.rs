//! `limpet services`: how each service fares, and why it is not as wanted.

use clap::Args;
use limpet_controller::api::types::ServiceView;
use serde::Serialize;

use crate::client::Client;
use crate::output::{self, Column, Field, ListArgs, Tone, column, wide};

/// Arguments of `limpet services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Only those of this application
    #[arg(value_name = "APP")]
    application: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// A service with the application that it belongs to.
#[derive(Debug, Serialize)]
struct Row {
    application: String,
    #[serde(flatten)]
    service: ServiceView,
}

/// Shows the services.
///
/// # Errors
/// If the controller does not answer, or has no such application.
pub async fn run(args: &ServicesArgs, client: &Client) -> anyhow::Result<()> {
    let applications = match &args.application {
        Some(name) => vec![client.application(name).await?],
        None => client.applications().await?.items,
    };
    let of_application = |app: limpet_controller::api::types::ApplicationView| {
        let name = app.name;
        app.services.into_iter().map(move |service| Row { application: name.clone(), service })
    };
    let rows: Vec<Row> = applications.into_iter().flat_map(of_application).collect();
    output::list(&args.list, &columns(), &rows)?;
    Ok(())
}

fn columns() -> [Column<Row>; 8] {
    [
        column("SERVICE", |row, _| format!("{}.{}", row.application, row.service.name).into()),
        column("MODE", |row, _| row.service.mode.as_str().into()),
        column("READY", |row, _| ready(&row.service)),
        column("IMAGE", |row, _| row.service.image.as_str().into()),
        wide("RUNNING", |row, _| row.service.running.into()),
        wide("COMPLETED", |row, _| row.service.completed.into()),
        wide("SCALE", |row, _| scale(&row.service).into()),
        column("REASON", |row, _| row.service.reasons.join("; ").into()),
    ]
}

/// `1-6 a node`, or nothing.
fn scale(service: &ServiceView) -> String {
    service.scale.as_ref().map_or_else(String::new, |scale| {
        let whole = scale.total.map(|total| format!("{total} of ")).unwrap_or_default();
        let per = if scale.per == "node" { " a node" } else { "" };
        format!("{whole}{}-{}{per}", scale.min, scale.max)
    })
}

fn ready(service: &ServiceView) -> Field {
    if service.stopped {
        return Field { text: "stopped".to_owned(), tone: Tone::Plain };
    }
    if service.mode.ends_with("-job") {
        let text = format!("{}/{} completed", service.completed, service.wanted);
        let tone = if service.settled { Tone::Good } else { Tone::Waiting };
        return Field { text, tone };
    }
    let text = format!("{}/{}", service.ready.saturating_add(service.completed), service.wanted);
    let tone = if service.settled { Tone::Good } else { Tone::Waiting };
    Field { text, tone }
}
