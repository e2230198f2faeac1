//! Points in time as people write and read them: RFC 3339, or a duration before now.

/// Milliseconds in a day.
const DAY_MS: i64 = 86_400_000;

/// Reads `10m` (so long before `now_ms`) or `2026-11-28T14:00:00Z`, in milliseconds since 1970.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(ago) = crate::duration::parse(text) {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(now_ms.saturating_sub(ago_ms));
    }
    let expected = || "expected a duration such as 10m, or a time such as 2026-11-28T14:00:00Z";
    Ok(read(text).ok_or_else(expected)?)
}

fn read(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    let is = |at: usize, expected: &str| text.get(at..=at).is_some_and(|c| expected.contains(c));
    let shaped = is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !shaped || !sound || second > 60 || !text.is_ascii() {
        return None;
    }
    let rest = &text[19..];
    let digits = rest.strip_prefix('.').map_or(0, |fraction| {
        fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len())
    });
    let millis = match digits {
        0 => 0,
        digits => format!("{:0<3.3}", &rest[1..=digits]).parse::<i64>().ok()?,
    };
    let zone = if digits == 0 { rest } else { &rest[1 + digits..] };
    let offset_minutes = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let two = |a: u8, b: u8| std::str::from_utf8(&[a, b]).ok()?.parse::<i64>().ok();
            let minutes = two(*h1, *h2)? * 60 + two(*m1, *m2)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let minutes = i64::from(hour * 60 + minute) - offset_minutes;
    let of_day = (minutes * 60 + i64::from(second)) * 1000 + millis;
    u64::try_from(days_before(year.into(), month.into(), day.into()) * DAY_MS + of_day).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

/// Writes milliseconds since 1970 as RFC 3339 in UTC.
#[must_use]
pub fn show(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let (days, of_day) = (ms.div_euclid(DAY_MS) + 719_468, ms.rem_euclid(DAY_MS));
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let table = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:30:15.5Z", 951_827_415_500),
            ("2026-11-28T14:00:00+02:00", 1_795_867_200_000),
            ("2026-11-28 07:00:00.123456-05:00", 1_795_867_200_123),
            ("1999-12-31T23:59:59.999Z", 946_684_799_999),
        ];
        for (text, ms) in table {
            assert_eq!(parse(text, 0), Ok(ms), "{text}");
            assert_eq!(parse(&show(ms), 0), Ok(ms), "{text}");
        }
        assert_eq!(show(951_827_415_500), "2000-02-29T12:30:15.500Z");
        assert_eq!(parse("10m", 1_000_000), Ok(400_000));
        for wrong in [
            "",
            "x",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z5",
            "2026-01-01T25:00:00Z",
            "€026-01-01T00:00:00Z",
        ] {
            assert!(parse(wrong, 0).is_err(), "{wrong}");
        }
    }
}
