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
