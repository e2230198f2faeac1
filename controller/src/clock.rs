//! The controller's wall clock, for stamps that people read. Deciding code takes times as values.

use std::time::SystemTime;

/// Milliseconds since 1970 by this machine's clock; 0 if it stands before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the rim: where stamps come from")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
