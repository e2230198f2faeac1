//! Messages that are none: counted, and logged once a node and minute. No clock.

use std::collections::HashMap;

/// How often one source may be logged.
const EVERY_MS: u64 = 60_000;
/// Sources that are told apart. Beyond them the log says nothing until some are forgotten.
const MAX_SOURCES: usize = 1024;

/// How much nonsense came in, and from where.
#[derive(Debug, Default)]
pub struct Noise {
    total: u64,
    last_told: HashMap<String, u64>,
}

impl Noise {
    /// Counts one; whether it shall be logged.
    pub fn hear(&mut self, now_ms: u64, source: &str) -> bool {
        self.total += 1;
        if let Some(told) = self.last_told.get_mut(source) {
            let tell = now_ms.saturating_sub(*told) >= EVERY_MS;
            if tell {
                *told = now_ms;
            }
            return tell;
        }
        if self.last_told.len() >= MAX_SOURCES {
            self.last_told.retain(|_, told| now_ms.saturating_sub(*told) < EVERY_MS);
        }
        let room = self.last_told.len() < MAX_SOURCES;
        if room {
            self.last_told.insert(source.to_owned(), now_ms);
        }
        room
    }

    /// How many there were.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_source_and_minute() {
        let mut noise = Noise::default();
        let told = (0..120_000).filter(|now| noise.hear(*now, "n1")).count();
        assert_eq!((told, noise.total()), (2, 120_000));
        let told = (0..5000).filter(|n| noise.hear(0, &format!("n{n}"))).count();
        assert_eq!(told, MAX_SOURCES - 1);
    }
}
