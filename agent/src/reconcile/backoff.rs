//! How long a failing thing is left alone before it is tried again.
//!
//! In: how many tries in a row did not last. Out: a time.

/// The wait before the third start of a container that does not last; it doubles from there on.
const FIRST_RESTART_MS: u64 = 100;
/// The longest wait between two starts: a person who mended the cause waits no longer than this.
const LONGEST_RESTART_MS: u64 = 300_000;
/// The wait before an image is asked for again; a registry is not hammered.
const FIRST_IMAGE_MS: u64 = 1_000;
/// The longest wait for an image.
const LONGEST_IMAGE_MS: u64 = 300_000;
fn exponential(first_ms: u64, doublings: u32, longest_ms: u64) -> u64 {
    first_ms.saturating_mul(1 << doublings.min(32)).min(longest_ms)
}

/// How long after one start the next may come, when `short_runs` tries in a row did not last. The
/// first restart comes at once.
pub(super) fn between_starts_ms(short_runs: u32) -> u64 {
    match short_runs {
        0 | 1 => 0,
        more => exponential(FIRST_RESTART_MS, more - 2, LONGEST_RESTART_MS),
    }
}

/// How long to wait before an image is tried again that could not be had `failures` times in a row.
/// Up to a quarter of it depends on the moment of the failure, so that nodes that lost one registry
/// together do not all come back in one moment.
pub(super) fn image_retry_ms(failures: u32, failed_at_ms: u64) -> u64 {
    // The multiplier of Fibonacci hashing (2^64 / golden ratio): moments that are close spread far.
    let spread = failed_at_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    let longest = exponential(FIRST_IMAGE_MS, failures.saturating_sub(1), LONGEST_IMAGE_MS);
    longest - longest / 4 * spread / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_a_crash_loop_slows_down_to_five_minutes() {
        let waits: Vec<u64> = (0..16).map(between_starts_ms).collect();
        assert_eq!(waits[..8], [0, 0, 100, 200, 400, 800, 1_600, 3_200]);
        assert_eq!(waits[14..], [300_000, 300_000]);
        assert_eq!(between_starts_ms(u32::MAX), 300_000);
        let at_0 = [1, 2, 99].map(|failures| image_retry_ms(failures, 0));
        assert_eq!(at_0, [1_000, 2_000, 300_000]);
    }

    #[test]
    fn nodes_that_fail_together_come_back_apart() {
        let waits: Vec<u64> = (5_000_000..5_001_000).map(|at| image_retry_ms(99, at)).collect();
        assert!(waits.iter().all(|wait| (225_000..=300_000).contains(wait)));
        // A thousand nodes over 75 s: in no second come more than three times their share.
        for second in 225..=300 {
            let together = waits.iter().filter(|wait| **wait / 1000 == second).count();
            assert!(together <= 40, "{together} in second {second}");
        }
    }
}
