//! Durations as people write them on a command line: `90`, `30s`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

/// Longest duration that can be asked for: ten years, so that no sum overflows.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Reads a duration; a number without a unit is in seconds.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 30s, 5m, 1h30m or 7d";
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| EXPECTED)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map(|at| digits + at);
        let (unit, next) = rest[digits..].split_at(unit_end.unwrap_or(rest.len()) - digits);
        let unit_millis = match unit {
            "ms" => 1,
            "" if rest == text => 1000,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(EXPECTED.into()),
        };
        let part = number.checked_mul(unit_millis).filter(|part| *part <= MAX_SECONDS * 1000);
        millis += part.ok_or("longer than ten years")?;
        rest = next;
    }
    if text.is_empty() || millis > MAX_SECONDS * 1000 {
        return Err(EXPECTED.into());
    }
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases =
            [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("7d", 604_800), ("0s", 0)];
        for (text, seconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "m", "5x", "-1s", "1h5", "5 m", "99999999999999999999", "9999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
