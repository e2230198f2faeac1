//! `limpet up --demo`: the application that the repository brings along, up to its first answer.

use std::time::Duration;

use anyhow::Context as _;
use limpet_compose::{LoadOptions, MemoryFiles};

use crate::client::Client;
use crate::compose_files::accept;
use crate::targets::Target;
use crate::verbs::wait::Awaited;
use crate::verbs::{ps, wait};
use crate::{output, progress};

/// How long the demo may take: its image is 1 MB and comes from this very process.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Where the demo's web service answers; a test compares it with the file.
const URL: &str = "http://127.0.0.1:8088";
/// What the embedded file is called in messages.
const FILE: &str = "demo.yaml";

/// Loads the demo's image, applies its application and waits until it runs.
///
/// # Errors
/// If the controller refuses one of them, or it does not come to run.
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let step = progress::spinner("load the demo image".into());
    client.load_image(limpet_images::demo_archive().into()).await.context("load the demo image")?;
    step.finish_and_clear();

    let options = LoadOptions { files: vec![FILE.into()], ..LoadOptions::default() };
    let files = MemoryFiles::new().with(FILE, limpet_images::DEMO_COMPOSE);
    let project = accept(limpet_compose::load(&options, &files))?;
    let application = accept(project.to_application())?;
    let outcome = client.apply(&application, None).await.context("apply the demo")?;
    let target = Target::whole(application.name);
    let awaited = Awaited { target: &target, revision: Some(outcome.revision) };
    wait::until_settled(awaited, TIMEOUT, client).await?;

    output::print("The demo application runs:\n\n")?;
    ps::show(&outcome.application, client).await?;
    output::print(&format!("\nOpen {URL}\n"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_file() {
        let address = URL.trim_start_matches("http://");
        assert!(limpet_images::DEMO_COMPOSE.contains(address), "{}", limpet_images::DEMO_COMPOSE);
    }
}
