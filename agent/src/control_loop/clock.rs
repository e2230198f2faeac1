//! The loop's clocks: one that never goes back, for decisions; one for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::link::uptime_centiseconds;

/// Milliseconds of a clock that begins near the boot, so that what began before the agent did has a
/// time too.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    began_ms: u64,
}

impl Clock {
    /// A clock that shows about the node's uptime.
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now(), began_ms: uptime_centiseconds().saturating_mul(10) }
    }

    /// Now, for decisions.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_ms.saturating_add(since)
    }

    /// Now, for people: milliseconds since 1970 by the node's clock, which may be wrong.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the loop is the rim; no decision uses this clock"
    )]
    pub fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until then; without a time, for ever.
    pub async fn sleep_until(self, at_ms: Option<u64>) {
        let after = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(self.began_ms));
        match at_ms.and_then(|at_ms| self.began.checked_add(after(at_ms))) {
            None => std::future::pending().await,
            Some(at) => tokio::time::sleep_until(at).await,
        }
    }
}
