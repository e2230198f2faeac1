//! The controller inside `limpet up`: a task of this process.

use anyhow::Context as _;
use limpet_controller::config::{Broker, ControllerArgs};
use limpet_controller::run::{Ready, RunError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::UpArgs;
use super::layout::Layout;
use crate::connection::{Connection, Source};

/// A controller that answers.
#[derive(Debug)]
pub struct ControllerPart {
    /// The one task that is the controller.
    task: JoinSet<Result<(), RunError>>,
    shutdown: CancellationToken,
    /// Where it answers.
    ready: Ready,
}

impl ControllerPart {
    /// Starts a controller and waits until it answers.
    ///
    /// # Errors
    /// What stands in its way, by the option that changes it.
    pub async fn start(args: &UpArgs, layout: &Layout) -> anyhow::Result<Self> {
        let config = ControllerArgs {
            data: Some(layout.controller.clone()),
            api_listen: Some(args.api_listen),
            mqtt_listen: Some(args.mqtt_listen),
            network_pool: args.network_pool,
            ..ControllerArgs::default()
        };
        let config = config.resolve().context("configure the controller")?;
        let shutdown = CancellationToken::new();
        let (tell, told) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(limpet_controller::run::run(config, tell, shutdown.clone()));
        match told.await {
            Ok(ready) => Ok(Self { task, shutdown, ready }),
            // It ended before it was ready, so this does not wait.
            Err(_) => Err(ended(&mut task).await),
        }
    }

    /// How it is reached.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection {
            server: format!("http://{}", limpet_controller::run::reachable(self.ready.api)),
            server_source: Source::Default,
            token: Some(self.ready.admin_token.clone()),
            token_source: Source::File(self.ready.client_file.clone()),
            looked_in: Vec::new(),
        }
    }

    /// The URL of its broker.
    #[must_use]
    pub fn broker(&self) -> String {
        match &self.ready.mqtt {
            Broker::Embedded(address) => {
                format!("mqtt://{}", limpet_controller::run::reachable(*address))
            }
            Broker::External(url) => url.to_string(),
        }
    }

    /// Waits until the controller fails. May be dropped at any time.
    pub async fn failed(&mut self) -> anyhow::Error {
        ended(&mut self.task).await.context("the controller failed")
    }

    /// Tells it to stop and waits until it has.
    ///
    /// # Errors
    /// If it does not stop in good order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        while let Some(result) = self.task.join_next().await {
            result.context("stop the controller")?.context("stop the controller")?;
        }
        Ok(())
    }
}

/// Why the task ended.
async fn ended(task: &mut JoinSet<Result<(), RunError>>) -> anyhow::Error {
    match task.join_next().await {
        Some(Ok(Err(error))) => error.into(),
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("the controller ended by itself"),
    }
}
