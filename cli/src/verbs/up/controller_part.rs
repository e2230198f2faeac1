//! The controller inside `limpet up`: a task of this process.

use std::net::SocketAddr;

use anyhow::Context as _;
use limpet_controller::config::{Broker, ControllerArgs};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::UpArgs;
use super::layout::Layout;

/// A controller that answers.
#[derive(Debug)]
pub struct ControllerPart {
    /// The one task that is the controller.
    task: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
    /// Where its API answers.
    pub api: SocketAddr,
    /// Where its broker answers.
    pub mqtt: SocketAddr,
}

impl ControllerPart {
    /// Starts a controller and waits until it answers.
    ///
    /// # Errors
    /// If it cannot start.
    pub async fn start(args: &UpArgs, layout: &Layout) -> anyhow::Result<Self> {
        let config = ControllerArgs {
            data: Some(layout.controller.clone()),
            api_listen: Some(args.api_listen),
            mqtt_listen: Some(args.mqtt_listen),
            log: Some(args.log.clone()),
            ..ControllerArgs::default()
        };
        let config = config.resolve().context("configure the controller")?;
        anyhow::bail!("not yet: {config:?} {}", matches!(config.broker, Broker::Embedded(_)))
    }

    /// Waits until the controller fails. May be dropped at any time.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.task.join_next().await {
            Some(Ok(Err(error))) => error.context("the controller failed"),
            _ => anyhow::anyhow!("the controller ended by itself"),
        }
    }

    /// Tells it to stop and waits until it has.
    ///
    /// # Errors
    /// If it fails to stop in good order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended.context("stop the controller")??;
        }
        Ok(())
    }
}
