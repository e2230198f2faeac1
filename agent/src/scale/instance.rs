//! One container: counters and readiness → what it used, and whether that counts.
//!
//! A container counts once it is ready and was measured for a whole [`SPAN_MS`] after that: what it used
//! while it came up says nothing of its load (Kubernetes: "not yet ready" pods, and
//! `--horizontal-pod-autoscaler-cpu-initialization-period`).

use heapless::Deque;

/// Over how long the use of the processor is measured.
pub(super) const SPAN_MS: u64 = 1_000;
/// Readings that are kept: enough for the span at the usual pace of two a second, and one more.
const MAX_READINGS: usize = 4;
/// Millionths of a second in a thousandth.
const US_PER_MS: u64 = 1_000;

/// What was read of a container at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Whether it may get traffic.
    pub ready: bool,
    /// Processor time since it began, in microseconds; none if that could not be read.
    pub cpu_us: Option<u64>,
    /// Memory in use; none if that could not be read, or was not asked for.
    pub memory_bytes: Option<u64>,
}

/// Follows one container.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    ready_since_ms: Option<u64>,
    cpu: Deque<(u64, u64), MAX_READINGS>,
    memory_bytes: Option<u64>,
}

impl Meter {
    pub(super) fn read(&mut self, sample: Sample, now_ms: u64) {
        self.ready_since_ms = match (sample.ready, self.ready_since_ms) {
            (true, None) => Some(now_ms),
            (true, since) => since,
            (false, _) => None,
        };
        self.memory_bytes = sample.memory_bytes;
        match sample.cpu_us {
            Some(cpu_us) if sample.ready => {
                if self.cpu.back().is_some_and(|(_, before)| *before > cpu_us) {
                    self.cpu.clear();
                }
                // Of readings that are farther back than the span the newest is enough.
                while self.cpu.is_full() || self.second_is_old_enough(now_ms) {
                    self.cpu.pop_front();
                }
                self.cpu.push_back((now_ms, cpu_us)).ok();
            }
            _ => self.cpu.clear(),
        }
    }

    fn second_is_old_enough(&self, now_ms: u64) -> bool {
        let mut readings = self.cpu.iter().skip(1);
        readings.next().is_some_and(|(at_ms, _)| at_ms.saturating_add(SPAN_MS) <= now_ms)
    }

    /// Whether what it uses says something.
    pub(super) fn counts(&self, now_ms: u64) -> bool {
        self.ready_since_ms.is_some_and(|since_ms| since_ms.saturating_add(SPAN_MS) <= now_ms)
    }

    /// Processor time in thousandths of a processor; none if it could not be read.
    pub(super) fn cpu_millis(&self) -> Option<u64> {
        let ((from_ms, from_us), (to_ms, to_us)) = (self.cpu.front()?, self.cpu.back()?);
        let time_ms = to_ms.checked_sub(*from_ms).filter(|time_ms| *time_ms > 0)?;
        Some(to_us.saturating_sub(*from_us).saturating_mul(1_000) / (time_ms * US_PER_MS))
    }

    pub(super) const fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ready: bool, cpu_ms: u64) -> Sample {
        Sample { ready, cpu_us: Some(cpu_ms * US_PER_MS), memory_bytes: Some(7) }
    }

    #[test]
    fn the_processor_is_measured_over_a_second() {
        let mut meter = Meter::default();
        // Idle, then at half a processor from 1000 ms on.
        for at in [0, 500, 1_000, 1_500, 2_000] {
            let used = at.max(1_000) - 1_000;
            meter.read(sample(true, used / 2), at);
            let expected = [None, Some(0), Some(0), Some(250), Some(500)];
            assert_eq!(meter.cpu_millis(), expected[usize::try_from(at / 500).unwrap()], "{at}");
        }
        assert_eq!((meter.memory_bytes(), meter.counts(2_000)), (Some(7), true));
    }

    #[test]
    fn what_it_used_before_it_was_ready_does_not_count() {
        let mut meter = Meter::default();
        meter.read(sample(false, 0), 0);
        meter.read(sample(false, 500), 500);
        assert_eq!((meter.cpu_millis(), meter.counts(500)), (None, false));
        for (at, used) in [(1_000, 1_000), (1_500, 1_010), (2_000, 1_020)] {
            meter.read(sample(true, used), at);
            assert_eq!(meter.counts(at), at == 2_000);
        }
        assert_eq!(meter.cpu_millis(), Some(20));
        meter.read(Sample { cpu_us: None, ..sample(true, 0) }, 2_500);
        assert_eq!((meter.cpu_millis(), meter.counts(2_500)), (None, true), "it is missing");
        meter.read(sample(false, 0), 3_000);
        assert!(!meter.counts(9_000));
    }

    #[test]
    fn rare_readings_are_no_trouble() {
        let mut meter = Meter::default();
        meter.read(sample(true, 0), 0);
        meter.read(sample(true, 5_000), 10_000);
        assert_eq!(meter.cpu_millis(), Some(500));
        meter.read(sample(true, 4_000), 10_001);
        assert_eq!(meter.cpu_millis(), None, "a counter that went back begins anew");
    }
}
