//! Time zones as rules: what POSIX.1 `TZ` strings mean (`CET-1CEST,M3.5.0,M10.5.0/3`).
//!
//! In: the text, as the footer of a TZif file has it (RFC 8536, section 3.3, with its extension of
//! times to -167..=167 hours). Out: a [`Zone`] that turns time into local time and back. Pure: a node
//! needs no time zone database. Seconds are those since 1970 without leap seconds.

use alloc::format;
use alloc::string::String;

const DAY: i64 = 86_400;
/// Longest rule text: the longest of the time zone database has 45 bytes.
pub const MAX_ZONE_BYTES: usize = 128;

/// Why a text is no time zone rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Longer than any rule.
    #[error("longer than {MAX_ZONE_BYTES} bytes")]
    TooLong,
    /// It does not go on as a rule would.
    #[error("expected {expected} at {rest:?} (POSIX.1 writes CET-1CEST,M3.5.0,M10.5.0/3)")]
    Expected {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        rest: String,
    },
}

/// A time zone: its offsets and when they change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of Greenwich.
    standard: i64,
    summer: Option<Summer>,
}

/// The other offset, and when it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summer {
    offset: i64,
    begins: Rule,
    ends: Rule,
}

/// A day of every year and a local time on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    day: Day,
    /// Seconds since midnight; may be on another day.
    time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// `Jn`: 1..=365, February 29 is never counted.
    Julian(i64),
    /// `n`: 0..=365, counted from January 1.
    OfYear(i64),
    /// `Mm.w.d`: the w-th (5: the last) weekday d of month m.
    Weekday { month: i64, week: i64, weekday: i64 },
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self { standard: 0, summer: None };

    /// Reads a rule; the empty text is UTC.
    ///
    /// # Errors
    /// [`ZoneError`] says where it stops being one.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        if text.len() > MAX_ZONE_BYTES {
            return Err(ZoneError::TooLong);
        }
        if text.is_empty() {
            return Ok(Self::UTC);
        }
        let mut rest = Reader { rest: text };
        rest.name()?;
        let standard = -rest.time("an offset such as -1")?;
        if rest.rest.is_empty() {
            return Ok(Self { standard, summer: None });
        }
        rest.name()?;
        let offset = match rest.peek() {
            Some(b',') | None => standard + 3_600,
            Some(_) => -rest.time("an offset such as -2")?,
        };
        rest.expect(b',', "a comma and when summer time begins")?;
        let begins = rest.rule()?;
        rest.expect(b',', "a comma and when summer time ends")?;
        let ends = rest.rule()?;
        if !rest.rest.is_empty() {
            return Err(rest.expected("the end"));
        }
        Ok(Self { standard, summer: Some(Summer { offset, begins, ends }) })
    }

    /// Seconds east of Greenwich at a time.
    #[must_use]
    pub fn offset_at(&self, at_s: i64) -> i64 {
        let Some(summer) = self.summer else { return self.standard };
        let (begins, ends) = self.changes(summer, year_of(at_s + self.standard));
        let in_summer = if begins < ends {
            (begins..ends).contains(&at_s)
        } else {
            !(ends..begins).contains(&at_s)
        };
        if in_summer { summer.offset } else { self.standard }
    }

    /// When summer time begins and ends in a year.
    fn changes(&self, summer: Summer, year: i64) -> (i64, i64) {
        let begins = summer.begins.local_s(year) - self.standard;
        (begins, summer.ends.local_s(year) - summer.offset)
    }

    /// A time for people: `2026-11-29 03:00 +01:00`.
    #[must_use]
    pub fn shown(&self, at_s: i64) -> String {
        let offset = self.offset_at(at_s);
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        let local = Civil::of(at_s.saturating_add(offset));
        format!("{local} {sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// The time at which a clock on the wall shows this (seconds of local time since 1970). Of two the
    /// first; where the clock leaps over it, the moment of the leap.
    #[must_use]
    pub fn at_local(&self, local_s: i64) -> i64 {
        let Some(summer) = self.summer else { return local_s - self.standard };
        let (high, low) = (self.standard.max(summer.offset), self.standard.min(summer.offset));
        let shown =
            [high, low].into_iter().find(|offset| self.offset_at(local_s - offset) == *offset);
        if let Some(offset) = shown {
            return local_s - offset;
        }
        let year = year_of(local_s);
        let changes =
            (year - 1..=year + 1).flat_map(|year| <[i64; 2]>::from(self.changes(summer, year)));
        let leap = |change: &i64| *change > local_s - high && *change <= local_s - low;
        changes.into_iter().find(leap).unwrap_or(local_s - low)
    }
}

impl Rule {
    fn local_s(self, year: i64) -> i64 {
        let first = days_before(year, 1, 1);
        let day = match self.day {
            Day::Julian(day) => {
                let leap = is_leap(year) && day >= 60;
                first + day - 1 + i64::from(leap)
            }
            Day::OfYear(day) => first + day,
            Day::Weekday { month, week, weekday } => {
                let first = days_before(year, month, 1);
                let ahead = (weekday - weekday_of(first)).rem_euclid(7);
                let mut day = first + ahead + (week - 1) * 7;
                // The fifth is the last, which may be the fourth.
                if day >= first + days_in(year, month) {
                    day -= 7;
                }
                day
            }
        };
        day * DAY + self.time
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    fn expected(&self, expected: &'static str) -> ZoneError {
        ZoneError::Expected { expected, rest: self.rest.into() }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ZoneError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.skip(1);
        Ok(())
    }

    /// `CET`, or `<+03>`.
    fn name(&mut self) -> Result<(), ZoneError> {
        const EXPECTED: &str = "a name of three letters or more, or one in <>";
        let length = if self.peek() == Some(b'<') {
            let end = self.rest.find('>').ok_or_else(|| self.expected(EXPECTED))?;
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-');
            let inner = self.rest.get(1..end).unwrap_or_default();
            if inner.len() < 3 || !inner.bytes().all(legal) {
                return Err(self.expected(EXPECTED));
            }
            end + 1
        } else {
            let letters = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            if letters < 3 {
                return Err(self.expected(EXPECTED));
            }
            letters
        };
        self.skip(length);
        Ok(())
    }

    fn number(
        &mut self,
        range: core::ops::RangeInclusive<i64>,
        what: &'static str,
    ) -> Result<i64, ZoneError> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = self.rest.get(..digits).and_then(|digits| digits.parse().ok());
        let number =
            number.filter(|number| range.contains(number)).ok_or_else(|| self.expected(what))?;
        self.skip(digits);
        Ok(number)
    }

    /// `[+-]hh[:mm[:ss]]`, in seconds.
    fn time(&mut self, what: &'static str) -> Result<i64, ZoneError> {
        let sign = match self.peek() {
            Some(b'-') => -1,
            _ => 1,
        };
        if matches!(self.peek(), Some(b'-' | b'+')) {
            self.skip(1);
        }
        let mut seconds = self.number(0..=167, what)? * 3_600;
        for unit in [60, 1] {
            if self.peek() != Some(b':') {
                break;
            }
            self.skip(1);
            seconds += self.number(0..=59, "minutes or seconds")? * unit;
        }
        Ok(sign * seconds)
    }

    fn rule(&mut self) -> Result<Rule, ZoneError> {
        let day = match self.peek() {
            Some(b'J') => {
                self.skip(1);
                Day::Julian(self.number(1..=365, "a day of 1 to 365")?)
            }
            Some(b'M') => {
                self.skip(1);
                let month = self.number(1..=12, "a month")?;
                self.expect(b'.', "a point and a week")?;
                let week = self.number(1..=5, "a week of 1 to 5")?;
                self.expect(b'.', "a point and a weekday")?;
                Day::Weekday { month, week, weekday: self.number(0..=6, "a weekday of 0 to 6")? }
            }
            _ => Day::OfYear(self.number(0..=365, "Mm.w.d, Jn or n")?),
        };
        let time = if self.peek() == Some(b'/') {
            self.skip(1);
            self.time("a time such as 3")?
        } else {
            2 * 3_600
        };
        Ok(Rule { day, time })
    }
}

/// A date and time as a clock on the wall shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
}

impl Civil {
    /// From seconds of local time since 1970.
    #[must_use]
    pub fn of(local_s: i64) -> Self {
        let (days, second) = (local_s.div_euclid(DAY), local_s.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Self { year, month, day, hour: second / 3_600, minute: second % 3_600 / 60 }
    }
}

impl core::fmt::Display for Civil {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { year, month, day, hour, minute } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
#[must_use]
pub fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// The date that lies so many days after 1970-01-01.
#[must_use]
pub fn date_of(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, in the calendar's cycles of 400 years; leap days come last in a year.
    let (cycle, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let day = day - (month * 153 + 2) / 5 + 1;
    let year = cycle * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// 0 is Sunday.
#[must_use]
pub fn weekday_of(days: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (days + 4).rem_euclid(7)
}

/// How many days a month has.
#[must_use]
pub fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn year_of(local_s: i64) -> i64 {
    date_of(local_s.div_euclid(DAY)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> i64 {
        days_before(year, month, day) * DAY + hour * 3_600 + minute * 60
    }

    #[test]
    fn days_and_dates_go_both_ways() {
        assert_eq!(days_before(1970, 1, 1), 0);
        assert_eq!(days_before(2000, 3, 1), 11_017);
        assert_eq!(weekday_of(days_before(2026, 11, 28)), 6);
        for days in (-800_000..800_000).step_by(13) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_before(year, month, day), days);
            assert!((1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day));
        }
    }

    /// Offsets as `zdump -v` of the time zone database 2024a shows them around the changes.
    #[test]
    fn offsets_change_when_the_rules_say() {
        let table = [
            ("CET-1CEST,M3.5.0,M10.5.0/3", at(2026, 3, 29, 1, 0), 3_600, 7_200),
            ("CET-1CEST,M3.5.0,M10.5.0/3", at(2026, 10, 25, 1, 0), 7_200, 3_600),
            ("EST5EDT,M3.2.0,M11.1.0", at(2026, 3, 8, 7, 0), -18_000, -14_400),
            ("EST5EDT,M3.2.0,M11.1.0", at(2026, 11, 1, 6, 0), -14_400, -18_000),
            // The southern half: summer lasts over the new year.
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", at(2026, 4, 4, 16, 0), 39_600, 36_000),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", at(2026, 10, 3, 16, 0), 36_000, 39_600),
            // Dublin: "summer time" is winter, with the smaller offset.
            ("IST-1GMT0,M10.5.0,M3.5.0/1", at(2026, 3, 29, 1, 0), 0, 3_600),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", at(2026, 10, 25, 1, 0), 3_600, 0),
            // Nuuk: on the Saturday before, so with a negative time.
            ("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", at(2026, 3, 29, 1, 0), -7_200, -3_600),
            ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", at(2026, 10, 3, 15, 30), 37_800, 39_600),
        ];
        for (text, change, before, after) in table {
            let zone = Zone::parse(text).unwrap();
            assert_eq!(zone.offset_at(change - 1), before, "{text} before");
            assert_eq!(zone.offset_at(change), after, "{text} after");
        }
        assert_eq!(Zone::parse("<+0545>-5:45").unwrap().offset_at(0), 20_700);
        assert_eq!(Zone::parse("").unwrap(), Zone::UTC);
    }

    #[test]
    fn a_clock_on_the_wall_may_leap_or_show_a_time_twice() {
        let berlin = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(berlin.at_local(at(2026, 7, 1, 12, 0)), at(2026, 7, 1, 10, 0));
        let leap = at(2026, 3, 29, 1, 0);
        assert_eq!(berlin.at_local(at(2026, 3, 29, 2, 30)), leap, "there is no 02:30");
        assert_eq!(berlin.at_local(at(2026, 3, 29, 3, 0)), leap);
        assert_eq!(berlin.at_local(at(2026, 10, 25, 2, 30)), at(2026, 10, 25, 0, 30), "the first");
        let dublin = Zone::parse("IST-1GMT0,M10.5.0,M3.5.0/1").unwrap();
        assert_eq!(dublin.at_local(at(2026, 3, 29, 1, 30)), at(2026, 3, 29, 1, 0));
        assert_eq!(dublin.at_local(at(2026, 10, 25, 1, 30)), at(2026, 10, 25, 0, 30));
    }

    #[test]
    fn what_is_no_rule_says_where() {
        for (text, expected) in [
            ("CE", "a name"),
            ("CET", "an offset"),
            ("CET-1CEST", "when summer time begins"),
            ("CET-1CEST,M3.5.0", "when summer time ends"),
            ("CET-1CEST,M13.5.0,M10.5.0", "a month"),
            ("CET-1CEST,M3.6.0,M10.5.0", "a week"),
            ("CET-1CEST,M3.5.0,M10.5.0/3x", "the end"),
            ("CET-999", "an offset"),
            ("<+>-3", "a name"),
            ("Ä", "a name"),
        ] {
            let error =
                Zone::parse(text).map_err(|error| alloc::string::ToString::to_string(&error));
            assert!(error.as_ref().is_err_and(|e| e.contains(expected)), "{text}: {error:?}");
        }
        assert_eq!(Zone::parse(&"x".repeat(200)), Err(ZoneError::TooLong));
    }
}
