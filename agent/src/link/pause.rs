//! How long to wait before the next connection.
//!
//! In: chance. Out: exponential pauses from 1 s to 60 s, the second half of each left to chance, so
//! that a thousand nodes that lost one broker do not come back in one moment.

use std::time::Duration;

const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 60_000;
/// 1 s doubled six times is past the longest.
const MAX_DOUBLINGS: u32 = 6;

/// The pauses of one row of failures.
#[derive(Debug, Default)]
pub(super) struct Pause {
    doublings: u32,
}

impl Pause {
    /// The next pause, longer than the one before.
    pub(super) fn next(&mut self, chance: u8) -> Duration {
        let whole_ms = (FIRST_MS << self.doublings).min(LONGEST_MS);
        self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        Duration::from_millis(whole_ms / 2 + whole_ms / 2 * u64::from(chance) / u64::from(u8::MAX))
    }

    /// It went well: begin anew.
    pub(super) fn reset(&mut self) {
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew() {
        let mut pause = Pause::default();
        let longest: Vec<u128> = (0..8).map(|_| pause.next(u8::MAX).as_millis()).collect();
        assert_eq!(longest, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pause.next(0).as_millis(), 30_000);
        pause.reset();
        assert_eq!(pause.next(0).as_millis(), 500);
    }
}
