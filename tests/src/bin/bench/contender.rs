//! What both systems are asked to do.

use std::time::Duration;

use crate::measure::Memory;

/// How long a container runs before it is killed.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// A system that runs containers of the image `limpet-demo` on one node.
pub(crate) trait Contender {
    /// Deploys so many replicas and removes them again. Milliseconds from just before the deploy
    /// command is executed to the first instruction of the last container.
    fn deploy(&mut self, replicas: usize) -> f64;

    /// Kills the first process of a running container. Milliseconds to the first instruction of its
    /// replacement.
    fn kill_and_replace(&mut self) -> f64;

    /// The memory of everything that the node needs, with so many containers running.
    fn memory(&mut self, containers: usize) -> Memory;
}
