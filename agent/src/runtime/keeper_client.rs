//! The keeper, as the agent sees it: [`KeeperRuntime`].
//!
//! In: calls of [`Runtime`]. Out: requests to the keeper process over its socket, and what it
//! answers as [`RuntimeEvent`]s. Starts a keeper where none answers, and another when one is lost.

use std::path::{Path, PathBuf};

use super::{ContainerId, ContainerRequest, Runtime, RuntimeError, RuntimeEvent, RuntimePaths};

/// Containers through the keeper process of this node.
#[derive(Debug)]
pub struct KeeperRuntime {
    paths: RuntimePaths,
    keeper_exe: PathBuf,
}

impl KeeperRuntime {
    /// A runtime over the keeper that serves `paths.run`. `keeper_exe` is started as
    /// `keeper_exe keeper …` if none is there. Nothing happens yet: [`Runtime::next_event`]
    /// connects, and its first event is a [`RuntimeEvent::Snapshot`].
    #[must_use]
    pub fn connect(paths: RuntimePaths, keeper_exe: PathBuf) -> Self {
        Self { paths, keeper_exe }
    }

    /// Where the files are.
    #[must_use]
    pub fn paths(&self) -> &RuntimePaths {
        &self.paths
    }

    /// Tells the keeper to replace itself by the program at `exe` without losing a container.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    pub fn upgrade(&mut self, _exe: &Path) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotConnected {
            attempt: format!("upgrade {}", self.keeper_exe.display()),
        })
    }

    /// Tells the keeper to stop and remove every container, each with so long a grace period, and
    /// to end. When [`Runtime::next_event`] says [`RuntimeEvent::KeeperLost`] nothing is left.
    ///
    /// # Errors
    /// [`RuntimeError::NotConnected`].
    pub fn shutdown(&mut self, _grace_ms: u64) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotConnected { attempt: "shut the keeper down".to_owned() })
    }
}

impl Runtime for KeeperRuntime {
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotConnected { attempt: format!("start {}", request.id) })
    }

    fn stop(&mut self, id: &ContainerId, _signal: i32, _grace_ms: u64) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotConnected { attempt: format!("stop {id}") })
    }

    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotConnected { attempt: format!("remove {id}") })
    }

    async fn next_event(&mut self) -> RuntimeEvent {
        std::future::pending().await
    }
}
