//! Windows of time: when something may be begun, by the clock on the wall somewhere.
//!
//! In: the window and the time. Out: whether it is open, or when it opens. Pure. It opens at the times of
//! a crontab(5) schedule and stays open for a while, so it may reach over midnight and open twice a day.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::cron::{Cron, CronError};
use crate::zone::{Zone, ZoneError};

/// A window stays open for a week at most: one that is longer is always open.
pub const MAX_WINDOW_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// When it opens: five fields as crontab(5) has them.
    pub opens: String,
    /// How long it stays open.
    pub length_ms: u64,
    /// The time zone's rule as POSIX.1 `TZ` writes it; empty is UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// Why a window is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Its schedule.
    #[error(transparent)]
    Opens(#[from] CronError),
    /// Its time zone.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// Its length.
    #[error("stays open for {0} ms; a minute at least and a week at most are possible")]
    Length(u64),
}

/// What holds of a window at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It is open.
    Now,
    /// It opens later.
    In {
        /// After so long.
        ms: u64,
        /// For people: the time there.
        shown: String,
    },
    /// It does not open any more.
    Never,
}

impl Window {
    /// What holds of it. `wall_ms` are milliseconds since 1970.
    ///
    /// # Errors
    /// [`WindowError`] if it is none.
    pub fn at(&self, wall_ms: u64) -> Result<Opening, WindowError> {
        let (cron, zone) = (Cron::parse(&self.opens)?, Zone::parse(&self.zone)?);
        if !(60_000..=MAX_WINDOW_MS).contains(&self.length_ms) {
            return Err(WindowError::Length(self.length_ms));
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (now_s, length_s) = (signed(wall_ms / 1_000), signed(self.length_ms / 1_000));
        // Open if it opened less than its length ago.
        Ok(match cron.next(&zone, now_s.saturating_sub(length_s)) {
            None => Opening::Never,
            Some(at_s) if at_s <= now_s => Opening::Now,
            Some(at_s) => {
                let wait_ms = u64::try_from(at_s).unwrap_or_default().saturating_mul(1_000);
                Opening::In { ms: wait_ms.saturating_sub(wall_ms), shown: zone.shown(at_s) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2026-06-01, at midnight UTC.
    const MONDAY_MS: u64 = 1_780_272_000_000;
    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn it_opens_and_closes_by_the_clock_on_the_wall() {
        let window = |opens: &str, hours: u64| Window {
            opens: opens.to_owned(),
            length_ms: hours * HOUR_MS,
            zone: "CET-1CEST,M3.5.0,M10.5.0/3".to_owned(),
        };
        let opening = |window: &Window, hour: u64| match window.at(MONDAY_MS + hour * HOUR_MS) {
            Ok(Opening::Now) => "open".to_owned(),
            Ok(Opening::In { ms, shown }) => format!("{} h: {shown}", ms / HOUR_MS),
            other => format!("{other:?}"),
        };
        // From ten in the evening to two, which is from 20:00 to midnight UTC.
        let night = window("0 22 * * mon-fri", 4);
        for (hour, expected) in [
            (0, "20 h: 2026-06-01 22:00 +02:00"),
            (19, "1 h: 2026-06-01 22:00 +02:00"),
            (20, "open"),
            (23, "open"),
            (24, "20 h: 2026-06-02 22:00 +02:00"),
            // Saturday is free.
            (4 * 24 + 20, "open"),
            (5 * 24 + 20, "48 h: 2026-06-08 22:00 +02:00"),
        ] {
            assert_eq!(opening(&night, hour), expected, "{hour}");
        }
        assert_eq!(opening(&window("0 0 1 1 *", 168), 0), "5135 h: 2027-01-01 00:00 +01:00");
    }

    #[test]
    fn what_is_none_is_refused() {
        let window = |opens: &str, length_ms, zone: &str| {
            let window = Window { opens: opens.to_owned(), length_ms, zone: zone.to_owned() };
            window.at(MONDAY_MS).unwrap_err()
        };
        assert!(matches!(window("at noon", HOUR_MS, ""), WindowError::Opens(_)));
        assert!(matches!(window("0 0 * * *", HOUR_MS, "x"), WindowError::Zone(_)));
        assert_eq!(window("0 0 * * *", 1, ""), WindowError::Length(1));
    }
}
