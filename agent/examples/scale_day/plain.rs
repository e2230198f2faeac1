//! The plain rule of Kubernetes' HorizontalPodAutoscaler with its defaults: every 15 s, on the average of the
//! 15 s before, ratio with a tolerance of a tenth, five minutes downwards, and the rates of `behavior`.
//! Written as `horizontal.go` and `replica_calculator.go` have it, with plain lists.

use limpet_agent::scale::SAMPLE_EVERY_MS;
use limpet_agent::scale::figure::Reading;

use crate::{MAX, MIN, Rule, TARGET};

const SYNC_MS: u64 = 15_000;
const DOWN_MS: u64 = 300_000;
const TOLERANCE: f64 = 0.1;

pub(crate) struct Plain {
    number: u32,
    sum: u64,
    readings: u64,
    ready: u32,
    /// Recommendations of before, with their times.
    wishes: Vec<(u64, u32)>,
    /// By how much it grew, and when.
    grown: Vec<(u64, u32)>,
}

impl Plain {
    pub(crate) const fn new() -> Self {
        Self { number: MIN, sum: 0, readings: 0, ready: 1, wishes: vec![], grown: vec![] }
    }

    fn sync(&mut self, now_ms: u64) {
        let average = self.sum as f64 / self.readings.max(1) as f64;
        let ready = f64::from(self.ready.max(1));
        let ratio = average / (ready * TARGET as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let wish = if (ratio - 1.0).abs() <= TOLERANCE {
            self.number
        } else {
            (ratio * ready).ceil() as u32
        };
        let wish = wish.min(MAX);
        self.wishes.push((now_ms, wish));
        self.wishes.retain(|(at_ms, _)| at_ms + DOWN_MS > now_ms);
        let greatest = self.wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(wish);
        let settled = self.number.max(wish).min(greatest);
        self.grown.retain(|(at_ms, _)| at_ms + SYNC_MS > now_ms);
        let begin =
            self.number - self.grown.iter().map(|(_, by)| *by).sum::<u32>().min(self.number);
        let highest = (begin + 4).max(begin * 2).max(self.number);
        let next = settled.min(highest).clamp(MIN, MAX);
        if next > self.number {
            self.grown.push((now_ms, next - self.number));
        }
        self.number = next;
        (self.sum, self.readings) = (0, 0);
    }
}

impl Rule for Plain {
    fn name(&self) -> &'static str {
        "plain HPA (15 s, 5 min)"
    }

    fn look(&mut self, reading: Reading, now_ms: u64) -> u32 {
        self.sum += reading.sum;
        self.readings += 1;
        self.ready = reading.ready;
        if (now_ms + SAMPLE_EVERY_MS).is_multiple_of(SYNC_MS) {
            self.sync(now_ms);
        }
        self.number
    }
}
