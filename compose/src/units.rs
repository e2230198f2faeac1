//! Durations, byte sizes, signals and splitting of command lines: texts in, values out.

/// Milliseconds of a duration as Compose writes it: `1m30s`, `2.5s`, `100ms`, `10us`.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let microseconds = duration_us(text)?;
    Some(microseconds.div_ceil(1000))
}

fn duration_us(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_length = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit_length] {
            "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3600e6,
            "d" => 86_400e6,
            "w" => 604_800e6,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit_length..];
    }
    whole(total)
}

/// A duration as Go prints it: `1m30s`, `100ms`.
pub(crate) fn duration_text(text: &str) -> Option<String> {
    let microseconds = duration_us(text)?;
    if microseconds == 0 {
        return Some("0s".to_owned());
    }
    if microseconds < 1000 {
        return Some(format!("{microseconds}µs"));
    }
    if microseconds < 1_000_000 {
        return Some(format!("{}ms", decimal(microseconds, 1000)));
    }
    let (minutes, rest) = (microseconds / 60_000_000, microseconds % 60_000_000);
    let seconds = decimal(rest, 1_000_000);
    Some(match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    })
}

fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes of a size: `64m`, `1.5GB`, `512`, `2gib`; units are powers of 1024, as in Docker.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    whole(number * (1_u64 << shift) as f64)
}

/// Thousandths of a number: `0.5` is 500.
pub(crate) fn thousandths(text: &str) -> Option<u32> {
    let number: f64 = text.trim().parse().ok()?;
    u32::try_from(whole((number * 1000.0).round())?).ok()
}

/// Thousandths of a number that may be large: `1.5` is 1500.
pub(crate) fn fine(text: &str) -> Option<u64> {
    let number: f64 = text.trim().parse().ok()?;
    whole((number * 1000.0).round())
}

/// `25%`, or `25`.
pub(crate) fn percent(text: &str) -> Option<u32> {
    text.strip_suffix('%').unwrap_or(text).trim().parse().ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked in the line before"
)]
fn whole(number: f64) -> Option<u64> {
    // 2^53: larger numbers are no longer exact, and are no size or time that means anything.
    (number.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&number))
        .then_some(number as u64)
}

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const FIRST_REAL_TIME_SIGNAL: i32 = 34;
const LAST_REAL_TIME_SIGNAL: i32 = 64;

/// The number of a signal on x86 and ARM: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub(crate) fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=LAST_REAL_TIME_SIGNAL).contains(&number).then_some(number);
    }
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        Some(FIRST_REAL_TIME_SIGNAL.checked_add(offset(rest, '+')?)?)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        Some(LAST_REAL_TIME_SIGNAL.checked_sub(offset(rest, '-')?)?)
    } else {
        None
    };
    if let Some(number) = real_time {
        return (FIRST_REAL_TIME_SIGNAL..=LAST_REAL_TIME_SIGNAL)
            .contains(&number)
            .then_some(number);
    }
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        name => name,
    };
    let index = SIGNALS.iter().position(|known| *known == name)?;
    i32::try_from(index + 1).ok()
}

/// Splits a command line into words as a shell does, without variables or globs.
pub(crate) fn split_command(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let current = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(c) => current.push(c),
                        None => return Err("the closing ' is missing"),
                    }
                }
            }
            '"' => double_quotes(&mut characters, word.get_or_insert_default())?,
            '\\' => {
                let next = characters.next().ok_or("nothing follows the last \\")?;
                if next != '\n' {
                    word.get_or_insert_default().push(next);
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quotes(characters: &mut std::str::Chars, word: &mut String) -> Result<(), &'static str> {
    loop {
        match characters.next().ok_or("the closing \" is missing")? {
            '"' => return Ok(()),
            '\\' => match characters.next().ok_or("the closing \" is missing")? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                '\n' => {}
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

/// The candidate that is nearest to a word, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let limit = word.chars().count().div_ceil(3).max(1);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added, left out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms, canonical) in [
            ("10s", 10_000, "10s"),
            ("1m30s", 90_000, "1m30s"),
            ("90s", 90_000, "1m30s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("2.5s", 2500, "2.5s"),
            ("100ms", 100, "100ms"),
            ("10us", 1, "10µs"),
            ("0", 0, "0s"),
            ("1d", 86_400_000, "24h0m0s"),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
            assert_eq!(duration_text(text).as_deref(), Some(canonical), "{text}");
        }
        for text in ["", "10", "s", "1x", "-1s", "1s2", "1..2s", "99999999999999999w"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_and_numbers() {
        for (text, expected) in [
            ("512", 512),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("2gb", 2 << 30),
            ("1KiB", 1024),
            ("10 MB", 10 << 20),
            ("3b", 3),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1m", "1.2.3k", "1e99p"] {
            assert_eq!(bytes(text), None, "{text}");
        }
        assert_eq!(thousandths("0.5"), Some(500));
        assert_eq!(thousandths("x"), None);
        assert_eq!((fine("1.5"), fine("-1"), fine("x")), (Some(1500), None, None));
        assert_eq!((percent("25%"), percent("25"), percent("a")), (Some(25), Some(25), None));
    }

    #[test]
    fn signals() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("int", 2),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(signal(text), Some(number), "{text}");
        }
        for text in ["", "SIG", "0", "65", "RTMIN-1", "RTMIN+31", "what", "RTMIN+99999999999"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }

    #[test]
    fn commands() {
        let split = |text| split_command(text).map(|words| words.join("|"));
        assert_eq!(split("a 'b c' \"d \\\" e\" f\\ g ''").as_deref(), Ok("a|b c|d \" e|f g|"));
        assert_eq!(split("  ").as_deref(), Ok(""));
        assert!(split("a 'b").is_err() && split("a \"b").is_err() && split("a\\").is_err());
    }

    #[test]
    fn near_names() {
        let known = ["image", "ports", "profiles"];
        assert_eq!(nearest("imgae", known.into_iter()), Some("image"));
        assert_eq!(nearest("port", known.into_iter()), Some("ports"));
        assert_eq!(nearest("zzzzz", known.into_iter()), None);
    }
}
