//! How often somebody may fail.
//!
//! Who fails too often gets "too many" instead of a reason, and no log line each. A valid token
//! always passes: behind one address there may be many nodes, and one with an old secret must not
//! shut the others out. Guessing is hopeless anyway, since tokens have 256 random bits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one address in one window.
const MAX_FAILURES: u32 = 20;
/// How long failures count.
const WINDOW: Duration = Duration::from_secs(10);
/// Addresses that are remembered; with more, all are forgotten.
const MAX_ADDRESSES: usize = 4_096;

/// The failures of the last seconds, by address.
#[derive(Debug, Default)]
pub struct Attempts {
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Attempts {
    /// Notes a failure now; gives how long to wait if there were too many.
    #[expect(clippy::disallowed_methods, reason = "the rim: failures happen now")]
    pub fn failed(&self, from: IpAddr) -> Option<Duration> {
        self.failed_at(from, Instant::now())
    }

    fn failed_at(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&from) {
            failures.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            if failures.len() >= MAX_ADDRESSES {
                failures.clear();
            }
        }
        let (since, count) = failures.entry(from).or_insert((now, 0));
        let passed = now.saturating_duration_since(*since);
        if passed >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > MAX_FAILURES).then(|| WINDOW.saturating_sub(passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_are_told_to_wait_and_forgotten_after_a_while() {
        let attempts = Attempts::default();
        #[expect(clippy::disallowed_methods, reason = "a start for the times below")]
        let start = Instant::now();
        let (me, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..MAX_FAILURES {
            assert_eq!(attempts.failed_at(me, start), None);
        }
        let later = start + Duration::from_secs(4);
        assert_eq!(attempts.failed_at(me, later), Some(Duration::from_secs(6)));
        assert_eq!(attempts.failed_at(other, later), None);
        assert_eq!(attempts.failed_at(me, start + WINDOW), None);
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for number in 0..10_000_u32 {
            attempts.failed(std::net::Ipv4Addr::from(number).into());
        }
        assert!(attempts.failures.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
