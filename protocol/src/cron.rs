//! Schedules as crontab(5) writes them: minute, hour, day of month, month, day of week.
//!
//! In: the text and a [`Zone`]. Out: a [`Cron`] that knows its next time. Pure. The rules are those of
//! Vixie cron, as Debian documents them:
//! - crontab(5): lists, ranges, steps and names; a day matches if either of its two fields does, unless
//!   one of them begins with `*`, then both must.
//! - cron(8): where the clock leaps forward, a run with a fixed time that was leapt over begins at once;
//!   where it goes back, such a run does not begin twice. Runs of `*` hours or minutes follow the clock
//!   on the wall.

use alloc::string::String;
use alloc::vec::Vec;

use crate::zone::{Civil, Zone, weekday_of};

/// Longest text: five fields with long lists.
pub const MAX_CRON_BYTES: usize = 256;
/// How far ahead a next time is looked for: February 29 comes after eight years at the latest.
const MAX_DAYS_AHEAD: i64 = 9 * 366;
const DAY: i64 = 86_400;

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than any schedule.
    #[error("longer than {MAX_CRON_BYTES} bytes")]
    TooLong,
    /// Not five fields.
    #[error(
        "{found} fields; five are needed: minute, hour, day of month, month, day of week (crontab(5)), or one of \
         @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// One field is wrong.
    #[error("{field} {text:?}: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// As it is written.
        text: String,
        /// What is wrong, and what to write.
        why: &'static str,
    },
    /// No day ever matches.
    #[error("there is no such day in any year")]
    Never,
}

/// What a field may hold.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, names: &[] },
    Field { name: "hour", first: 0, last: 23, names: &[] },
    Field { name: "day of month", first: 1, last: 31, names: &[] },
    Field { name: "month", first: 1, last: 12, names: &MONTHS },
    Field { name: "day of week", first: 0, last: 7, names: &WEEKDAYS },
];

/// A schedule: sets of numbers, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both of the fields for days must match, because one of them begins with `*`.
    both_days: bool,
    /// The minute or the hour begins with `*`.
    follows_clock: bool,
}

impl Cron {
    /// Reads a schedule.
    ///
    /// # Errors
    /// [`CronError`] names the field and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.len() > MAX_CRON_BYTES {
            return Err(CronError::TooLong);
        }
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields { found: fields.len() });
        };
        let [minute_field, hour_field, day_field, month_field, weekday_field] = &FIELDS;
        let mut weekdays = weekday_field.set(weekday)?;
        // Both 0 and 7 are Sunday.
        weekdays |= weekdays >> 7 & 1;
        let cron = Self {
            minutes: minute_field.set(minute)?,
            hours: hour_field.set(hour)?,
            days: day_field.set(day)?,
            months: month_field.set(month)?,
            weekdays,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            follows_clock: minute.starts_with('*') || hour.starts_with('*'),
        };
        if cron.next(&Zone::UTC, 0).is_none() { Err(CronError::Never) } else { Ok(cron) }
    }

    /// The first time after another, in seconds since 1970.
    #[must_use]
    pub fn next(&self, zone: &Zone, after_s: i64) -> Option<i64> {
        let local = after_s.saturating_add(zone.offset_at(after_s));
        // A fixed time of yesterday may be leapt over into today.
        let first = local.div_euclid(DAY).saturating_sub(1);
        (first..first.saturating_add(MAX_DAYS_AHEAD))
            .filter(|day| self.has_day(*day))
            .find_map(|day| self.on_day(zone, day, after_s))
    }

    /// The first time of a local day that comes after another time.
    fn on_day(&self, zone: &Zone, day: i64, after_s: i64) -> Option<i64> {
        if self.follows_clock {
            self.shown(zone, day, after_s)
        } else {
            self.fixed(zone, day, after_s)
        }
    }

    /// Every minute at which the clock on the wall shows a time that matches.
    fn shown(&self, zone: &Zone, day: i64, after_s: i64) -> Option<i64> {
        let begins = zone.at_local(day * DAY);
        let ends = zone.at_local((day + 1) * DAY);
        let from = begins.max((after_s.div_euclid(60) + 1) * 60);
        let minutes = (0..(ends - from).max(0) / 60).map(|minute| from + minute * 60);
        minutes.into_iter().find(|at| {
            let local = Civil::of(at + zone.offset_at(*at));
            has(self.minutes, local.minute) && has(self.hours, local.hour)
        })
    }

    /// Every time of the day that matches, once, whatever the clock on the wall does.
    fn fixed(&self, zone: &Zone, day: i64, after_s: i64) -> Option<i64> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        let minutes = |hour: i64| {
            let of_hour = (0..60).filter(|minute| has(self.minutes, *minute));
            of_hour.map(move |minute| zone.at_local(day * DAY + hour * 3_600 + minute * 60))
        };
        hours.flat_map(minutes).find(|at| *at > after_s)
    }

    fn has_day(&self, day: i64) -> bool {
        let date = Civil::of(day * DAY);
        if !has(self.months, date.month) {
            return false;
        }
        let (by_date, by_weekday) = (has(self.days, date.day), has(self.weekdays, weekday_of(day)));
        if self.both_days { by_date && by_weekday } else { by_date || by_weekday }
    }
}

fn has(set: u64, number: i64) -> bool {
    u32::try_from(number).is_ok_and(|number| set >> number & 1 == 1)
}

impl Field {
    fn set(&self, text: &str) -> Result<u64, CronError> {
        let wrong = |why| CronError::Field { field: self.name, text: text.into(), why };
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => {
                    let step = step.parse().ok().filter(|step| (1..=59).contains(step));
                    (range, step.ok_or_else(|| wrong("a step is a number of 1 to 59"))?)
                }
                None => (part, 1_usize),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last),
                Some((first, last)) => (self.number(first, text)?, self.number(last, text)?),
                None if step > 1 => return Err(wrong("a step needs a range: 5-59/10 or */10")),
                None => {
                    let only = self.number(range, text)?;
                    (only, only)
                }
            };
            if first > last {
                return Err(wrong("the range goes backwards"));
            }
            for number in (first..=last).step_by(step) {
                set |= 1 << number;
            }
        }
        Ok(set)
    }

    fn number(&self, word: &str, text: &str) -> Result<u32, CronError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.first);
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let number = named.or_else(|| word.parse().ok().filter(|_| digits));
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            let why = match self.name {
                "minute" => "write 0 to 59, *, a range, a list or a step",
                "hour" => "write 0 to 23, *, a range, a list or a step",
                "day of month" => "write 1 to 31, *, a range, a list or a step",
                "month" => "write 1 to 12, jan to dec, *, a range, a list or a step",
                _ => "write 0 to 7 (0 and 7 are Sunday), sun to sat, *, a range, a list or a step",
            };
            CronError::Field { field: self.name, text: text.into(), why }
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::zone::days_before;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// `2026-03-29 01:00` as UTC.
    fn utc(text: &str) -> i64 {
        let numbers: Vec<i64> =
            text.split([' ', '-', ':']).map(|number| number.parse().unwrap()).collect();
        let [year, month, day, hour, minute] = numbers[..] else { panic!("{text}") };
        days_before(year, month, day) * DAY + hour * 3_600 + minute * 60
    }

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).unwrap(), Zone::parse(zone).unwrap());
        let next = |at: &i64| cron.next(&zone, *at);
        let all = core::iter::successors(next(&utc(after)), next);
        all.take(count).map(|at| Civil::of(at).to_string()).collect()
    }

    /// The examples of crontab(5), and one for each form of a field.
    #[test]
    fn next_times_are_those_of_crontab_5() {
        let table: [(&str, &[&str]); 14] = [
            ("5 0 * * *", &["2026-11-29 00:05", "2026-11-30 00:05"]),
            ("15 14 1 * *", &["2026-12-01 14:15", "2027-01-01 14:15"]),
            ("0 22 * * 1-5", &["2026-11-30 22:00", "2026-12-01 22:00"]),
            ("23 0-23/2 * * *", &["2026-11-28 14:23", "2026-11-28 16:23"]),
            ("5 4 * * sun", &["2026-11-29 04:05", "2026-12-06 04:05"]),
            // Either the date or the weekday.
            ("30 4 1,15 * 5", &["2026-12-01 04:30", "2026-12-04 04:30", "2026-12-11 04:30"]),
            // Both, because one begins with a star.
            ("0 0 */2 * sun", &["2026-11-29 00:00", "2026-12-13 00:00"]),
            ("*/20 * * * *", &["2026-11-28 14:20", "2026-11-28 14:40", "2026-11-28 15:00"]),
            ("0 0 29 2 *", &["2028-02-29 00:00", "2032-02-29 00:00"]),
            ("0 12 * JAN-mar 7", &["2027-01-03 12:00", "2027-01-10 12:00"]),
            ("@hourly", &["2026-11-28 15:00", "2026-11-28 16:00"]),
            ("@daily", &["2026-11-29 00:00"]),
            ("@monthly", &["2026-12-01 00:00"]),
            ("@yearly", &["2027-01-01 00:00", "2028-01-01 00:00"]),
        ];
        for (cron, expected) in table {
            assert_eq!(times(cron, "", "2026-11-28 14:00", expected.len()), expected, "{cron}");
        }
    }

    /// Debian's cron(8): what was leapt over runs at once, what comes twice runs once; what follows the
    /// clock does so.
    #[test]
    fn summer_time_begins_and_ends() {
        // 02:00 becomes 03:00 at 01:00 UTC.
        let spring = |cron| times(cron, BERLIN, "2026-03-28 23:30", 2);
        assert_eq!(spring("30 2 * * *"), ["2026-03-29 01:00", "2026-03-30 00:30"]);
        assert_eq!(spring("15,45 2 29 3 *"), ["2026-03-29 01:00", "2027-03-29 00:15"]);
        assert_eq!(spring("30 1,3 * * *"), ["2026-03-29 00:30", "2026-03-29 01:30"]);
        assert_eq!(spring("30 * * * *"), ["2026-03-29 00:30", "2026-03-29 01:30"]);
        // 03:00 becomes 02:00 at 01:00 UTC.
        let autumn = |cron| times(cron, BERLIN, "2026-10-24 23:30", 3);
        assert_eq!(
            autumn("30 2 * * *"),
            ["2026-10-25 00:30", "2026-10-26 01:30", "2026-10-27 01:30"]
        );
        assert_eq!(
            autumn("30 * * * *"),
            ["2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"],
            "every hour of the clock, also the one that comes twice"
        );
        assert_eq!(
            times("0 9 * * 1-5", "EST5EDT,M3.2.0,M11.1.0", "2026-10-30 20:00", 1),
            ["2026-11-02 14:00"],
            "nine in New York, winter again"
        );
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (text, why) in [
            ("", "0 fields; five are needed"),
            ("* * * *", "4 fields"),
            ("@reboot", "1 fields"),
            ("60 * * * *", "minute \"60\": write 0 to 59"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * foo *", "month \"foo\": write 1 to 12, jan to dec"),
            ("* * * * 8", "day of week"),
            ("5/10 * * * *", "a step needs a range"),
            ("*/0 * * * *", "a step is a number"),
            ("*/99 * * * *", "a step is a number"),
            ("30-10 * * * *", "backwards"),
            ("1,,2 * * * *", "minute"),
            ("-5 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            ("0 0 31 2 *", "no such day"),
        ] {
            let error = Cron::parse(text).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{text}: {error:?}");
        }
        assert_eq!(Cron::parse(&"1,".repeat(200)), Err(CronError::TooLong));
    }

    #[test]
    fn a_next_time_is_later_and_matches_its_clock() {
        let zone = Zone::parse(BERLIN).unwrap();
        for text in ["7 * * * *", "*/7 3-5 * * *", "0 0 1 * mon", "59 23 31 12 *", "30 2 * * *"] {
            let cron = Cron::parse(text).unwrap();
            let mut at = utc("2026-01-01 00:00");
            for _ in 0..300 {
                let next = cron.next(&zone, at).unwrap();
                assert!(next > at, "{text} at {at}");
                assert_eq!(cron.next(&zone, next - 1), Some(next), "{text} at {at}");
                at = next;
            }
        }
        // Absurd times give no panic.
        let cron = Cron::parse("@daily").unwrap();
        for at in [-DAY * 1_000_000, DAY * 1_000_000] {
            assert!(cron.next(&zone, at).is_some_and(|next| next > at));
        }
    }
}
